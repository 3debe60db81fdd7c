//! The patterns of all hosts as trees of segments, all in one arena.

use std::collections::HashMap;

use http::{HeaderValue, Method};

use super::conflict::Conflicts;
use super::pattern::{Pattern, Segment};

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

/// The routes of one pattern, in the order they were added.
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
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    pub(super) fn shares_method(&self, methods: Option<&[Method]>) -> bool {
        match (&self.methods, methods) {
            (Some(mine), Some(theirs)) => mine.iter().any(|method| theirs.contains(method)),
            _ => true,
        }
    }
}

impl Leaf {
    pub(super) fn add(&mut self, index: usize, methods: Option<Vec<Method>>) {
        self.routes.push(LeafRoute { index, methods });
    }

    fn write_allow(&mut self) {
        let mut methods: Vec<&str> = Vec::new();
        for method in self.routes.iter().filter_map(|route| route.methods.as_ref()).flatten() {
            if !methods.contains(&method.as_str()) {
                methods.push(method.as_str());
            }
        }
        // A method is a token, so that the list always is a field value.
        self.allow = HeaderValue::from_str(&methods.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
}

/// How the prefixes of two nodes, which are not the same, stand to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefixes {
    /// The first's is strictly the more specific one.
    FirstWithin,
    /// Each has paths that the other has not.
    Cross,
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
        let slot = if pattern.is_subtree() { &mut node.subtree } else { &mut node.exact };
        let leaf = *slot.get_or_insert(self.leaves.len());
        if leaf == self.leaves.len() {
            self.leaves.push(Leaf { routes: Vec::new(), allow: HeaderValue::from_static("") });
        }
        &mut self.leaves[leaf]
    }

    /// To be called when all routes are in.
    pub(super) fn finish(&mut self) {
        self.leaves.iter_mut().for_each(Leaf::write_allow);
    }

    /// The routes of the most specific pattern below `root` that covers `path`.
    ///
    /// Patterns that cover one path contain one another, since there are no conflicts; so the first that is found by
    /// going literal, parameter, subtree is the innermost. It is no deeper than the deepest pattern, whatever the path.
    pub(super) fn find(&self, root: NodeId, path: &str) -> Option<&Leaf> {
        let leaf = self.search(root, Some(path.strip_prefix('/')?))?;
        self.leaves.get(leaf)
    }

    fn search(&self, at: NodeId, rest: Option<&str>) -> Option<LeafId> {
        let node = &self.nodes[at];
        let Some(rest) = rest else { return node.exact.or(node.subtree) };
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

    /// The indices of all routes below `at` in match order: no pattern comes after one that contains it.
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

    /// Finds every two patterns below `at` that share paths without one containing the other.
    ///
    /// Instead of comparing all pairs, pairs of nodes are walked whose prefixes share paths; of two nodes the one with
    /// fewer literal children looks its own up in the other.
    pub(super) fn find_conflicts(&self, at: NodeId, conflicts: &mut Conflicts) {
        let node = &self.nodes[at];
        for (text, &child) in &node.literals {
            self.find_conflicts(child, conflicts);
            if let Some(parameter) = node.parameter.filter(|_| !text.is_empty()) {
                self.compare(child, parameter, Prefixes::FirstWithin, conflicts);
            }
        }
        if let Some(parameter) = node.parameter {
            self.find_conflicts(parameter, conflicts);
        }
    }

    fn compare(&self, first: NodeId, second: NodeId, prefixes: Prefixes, conflicts: &mut Conflicts) {
        if conflicts.is_full() {
            return;
        }
        let (one, other) = (&self.nodes[first], &self.nodes[second]);
        // A subtree whose prefix is the more specific one contains nothing of what the other node has below it.
        if let Some(subtree) = one.subtree {
            self.conflict_with_all(subtree, second, prefixes == Prefixes::FirstWithin, conflicts);
        }
        if prefixes == Prefixes::Cross {
            if let Some(subtree) = other.subtree {
                self.conflict_with_all(subtree, first, false, conflicts);
            }
            self.conflict(one.exact, other.exact, conflicts);
        }
        let (fewer, more) = if one.literals.len() <= other.literals.len() { (one, other) } else { (other, one) };
        for (text, &child) in &fewer.literals {
            if let Some(&twin) = more.literals.get(text) {
                let (child, twin) = if std::ptr::eq(fewer, one) { (child, twin) } else { (twin, child) };
                self.compare(child, twin, prefixes, conflicts);
            }
        }
        if let Some(parameter) = other.parameter {
            for (_, &child) in one.literals.iter().filter(|(text, _)| !text.is_empty()) {
                self.compare(child, parameter, prefixes, conflicts);
            }
        }
        if let Some(parameter) = one.parameter {
            for (_, &child) in other.literals.iter().filter(|(text, _)| !text.is_empty()) {
                self.compare(parameter, child, Prefixes::Cross, conflicts);
            }
        }
        if let (Some(one), Some(other)) = (one.parameter, other.parameter) {
            self.compare(one, other, prefixes, conflicts);
        }
    }

    /// `spare_subtree`: the subtree pattern at `at` itself contains `leaf`.
    fn conflict_with_all(&self, leaf: LeafId, at: NodeId, spare_subtree: bool, conflicts: &mut Conflicts) {
        if conflicts.is_full() {
            return;
        }
        let node = &self.nodes[at];
        self.conflict(Some(leaf), node.exact, conflicts);
        if !spare_subtree {
            self.conflict(Some(leaf), node.subtree, conflicts);
        }
        for &child in node.literals.values().chain(&node.parameter) {
            self.conflict_with_all(leaf, child, false, conflicts);
        }
    }

    fn conflict(&self, one: Option<LeafId>, other: Option<LeafId>, conflicts: &mut Conflicts) {
        let index = |leaf: Option<LeafId>| self.leaves[leaf?].routes.first().map(|route| route.index);
        if let (Some(one), Some(other)) = (index(one), index(other)) {
            conflicts.add(one, other);
        }
    }
}
