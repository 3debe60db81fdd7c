//! The patterns of all hosts as trees of segments, all in one arena.

use std::collections::HashMap;

use http::{HeaderValue, Method};

use crate::values::{Pattern, Segment};

pub(super) type NodeId = usize;
type LeafId = usize;

#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
}

/// A place in a path, behind some segments.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, NodeId>,
    parameter: Option<NodeId>,
    /// The routes of the pattern that ends here.
    exact: Option<LeafId>,
    /// The routes of the pattern that goes on with `*` here.
    subtree: Option<LeafId>,
}

/// The routes of one pattern: those that name their methods, then the one for all others; each in the order they were
/// added.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) routes: Vec<LeafRoute>,
    /// The value of `Allow` for a method that none of them has.
    pub(super) allow: HeaderValue,
}

#[derive(Debug)]
pub(super) struct LeafRoute {
    pub(super) index: usize,
    methods: Option<Vec<Method>>,
}

impl LeafRoute {
    pub(super) fn covers(&self, method: &Method) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
    }

    pub(super) fn shares_method(&self, methods: Option<&[Method]>) -> bool {
        match (&self.methods, methods) {
            (Some(mine), Some(theirs)) => mine.iter().any(|method| theirs.contains(method)),
            (None, None) => true,
            // Named methods are more specific than all of them.
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Leaf {
    pub(super) fn add(&mut self, index: usize, methods: Option<Vec<Method>>) {
        let place = match methods {
            Some(_) => self
                .routes
                .iter()
                .position(|route| route.methods.is_none())
                .unwrap_or(self.routes.len()),
            None => self.routes.len(),
        };
        self.routes.insert(place, LeafRoute { index, methods });
    }

    fn write_allow(&mut self) {
        let mut methods: Vec<&str> = Vec::new();
        for method in self
            .routes
            .iter()
            .filter_map(|route| route.methods.as_ref())
            .flatten()
        {
            if !methods.contains(&method.as_str()) {
                methods.push(method.as_str());
            }
        }
        // A method is a token, so that the list always is a field value.
        self.allow =
            HeaderValue::from_str(&methods.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
}

impl Tree {
    /// A new tree for another host.
    pub(super) fn plant(&mut self) -> NodeId {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// The routes of `pattern` below `root`.
    pub(super) fn leaf_mut(&mut self, root: NodeId, pattern: &Pattern) -> &mut Leaf {
        let mut at = root;
        for segment in pattern.segments() {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match segment {
                Segment::Parameter => *node.parameter.get_or_insert(next),
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        let node = &mut self.nodes[at];
        let slot = if pattern.is_subtree() {
            &mut node.subtree
        } else {
            &mut node.exact
        };
        let leaf = *slot.get_or_insert(self.leaves.len());
        if leaf == self.leaves.len() {
            self.leaves.push(Leaf {
                routes: Vec::new(),
                allow: HeaderValue::from_static(""),
            });
        }
        &mut self.leaves[leaf]
    }

    /// To be called when all routes are in.
    pub(super) fn finish(&mut self) {
        self.leaves.iter_mut().for_each(Leaf::write_allow);
    }

    /// The routes of the most specific pattern below `root` that covers `path`.
    ///
    /// The first that is found by going literal, parameter, subtree at every segment is the most specific one; where
    /// nothing below a literal covers the rest, the search comes back and goes on with the parameter.
    ///
    /// No path makes this long on its own: one way alone leads to a node, so that none is visited twice; none is deeper
    /// than the deepest pattern; and of a node's literals one is entered at most. The search forks only where a literal
    /// and a parameter stand side by side and the path fits below both. `n` visits thus need `n` nodes in the table that
    /// all fit one path, and it is the configuration, not a client, that puts them there.
    pub(super) fn find(&self, root: NodeId, path: &str) -> Option<&Leaf> {
        let leaf = self.search(root, Some(path.strip_prefix('/')?))?;
        self.leaves.get(leaf)
    }

    fn search(&self, at: NodeId, rest: Option<&str>) -> Option<LeafId> {
        let node = &self.nodes[at];
        let Some(rest) = rest else {
            return node.exact.or(node.subtree);
        };
        let (segment, rest) = match memchr::memchr(b'/', rest.as_bytes()) {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if !node.literals.is_empty()
            && let Some(&child) = node.literals.get(segment)
            && let Some(leaf) = self.search(child, rest)
        {
            return Some(leaf);
        }
        if let Some(child) = node.parameter
            && !segment.is_empty()
            && let Some(leaf) = self.search(child, rest)
        {
            return Some(leaf);
        }
        node.subtree
    }

    /// The routes of each pattern.
    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The indices of all routes below `at` in match order, which is the order of the search.
    pub(super) fn append_in_order(&self, at: NodeId, order: &mut Vec<usize>) {
        let node = &self.nodes[at];
        let mut literals: Vec<_> = node.literals.iter().collect();
        literals.sort_unstable();
        let routes = |leaf: Option<LeafId>| leaf.into_iter().flat_map(|leaf| &self.leaves[leaf].routes);
        order.extend(routes(node.exact).map(|route| route.index));
        for (_, &child) in literals {
            self.append_in_order(child, order);
        }
        if let Some(child) = node.parameter {
            self.append_in_order(child, order);
        }
        order.extend(routes(node.subtree).map(|route| route.index));
    }
}
