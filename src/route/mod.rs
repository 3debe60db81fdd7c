//! Which route a request belongs to: the most specific host, then the most specific path, then the method.
//!
//! Input: host patterns, path patterns and methods, each with a value, when the configuration is compiled; a host, a
//! path and a method with every request. Output: the one value for them, whatever the order in which routes were added.
//! Invariant: no request falls through to a weaker route because of its method, its spelling or the
//! order of the file.
//!
//! - An exact host comes before the longest `*.suffix`, that before routes without a host. Where no path of the more
//!   specific host covers the request, the next less specific host is asked.
//! - Of the patterns that cover a path the most specific one is found segment by segment from the left: a literal is
//!   more specific than a `{parameter}`, that than a `*`, and an end is more specific than a `*`. So on `/a/b/c` the
//!   route `/a/b/*` comes before `/a/{x}/c`. This puts every two different patterns in order; the names of parameters
//!   make no difference. Of the routes with one host and one pattern, those that name the method come before the one for
//!   all methods; two that name the same method, or that both name none, are a [`Conflict`].
//! - `/a` and `/a/` are different paths. `/a/*` covers both and everything below; `/a/{x}` covers neither, because a
//!   parameter is one segment that is not empty.
//! - Methods are compared literally: `GET` does not cover `HEAD`.

mod named;
#[cfg(test)]
mod tests;
mod tree;

use std::cmp::Ordering;
use std::collections::HashMap;

use http::{HeaderValue, Method};

pub use crate::values::{HostPattern, Pattern};
pub use named::NamedHosts;
use tree::{Leaf, NodeId, Tree};

/// The most conflicts that are reported of one table: a file with more of them has one mistake many times.
pub(crate) const MOST_CONFLICTS: usize = 100;

/// Two routes with one host and one pattern, but for the names of parameters, that name the same method or both none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The index of the one that was added first.
    pub first: usize,
    /// The index of the other.
    pub second: usize,
    /// A path that both cover.
    pub example: String,
}

/// The routes of a configuration while they are collected.
#[derive(Debug)]
pub struct Builder<T> {
    routes: Vec<Route<T>>,
}

#[derive(Debug)]
struct Route<T> {
    host: Option<HostPattern>,
    pattern: Pattern,
    methods: Option<Vec<Method>>,
    value: T,
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Builder<T> {
    /// No routes yet.
    #[must_use]
    pub fn new() -> Self {
        Self { routes: Vec::new() }
    }

    /// Adds a route and returns its index, from 0 in the order of adding. `methods` is `None` for all of them; an empty
    /// list covers none.
    pub fn add(
        &mut self,
        host: Option<HostPattern>,
        path: Pattern,
        methods: Option<Vec<Method>>,
        value: T,
    ) -> usize {
        self.routes.push(Route {
            host,
            pattern: path,
            methods,
            value,
        });
        self.routes.len() - 1
    }

    /// Puts the routes in order.
    ///
    /// # Errors
    /// Pairs of routes that tie, in the order of the second of each, [`MOST_CONFLICTS`] at most.
    pub fn build(self) -> Result<Table<T>, Vec<Conflict>> {
        let mut tree = Tree::default();
        let mut hosts: HashMap<Option<HostPattern>, NodeId> = HashMap::new();
        let mut conflicts = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let root = *hosts.entry(route.host.clone()).or_insert_with(|| tree.plant());
            let leaf = tree.leaf_mut(root, &route.pattern);
            let room = MOST_CONFLICTS - conflicts.len();
            let ties = leaf
                .routes
                .iter()
                .filter(|earlier| earlier.shares_method(route.methods.as_deref()));
            conflicts.extend(ties.take(room).map(|earlier| Conflict {
                first: earlier.index,
                second: index,
                example: route.pattern.example(),
            }));
            if conflicts.len() == MOST_CONFLICTS {
                break;
            }
            leaf.add(index, route.methods.clone());
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        tree.finish();
        Ok(Table::new(
            tree,
            hosts,
            self.routes.into_iter().map(|route| route.value).collect(),
        ))
    }
}

/// The routes of a configuration, ready to be asked.
#[derive(Debug)]
pub struct Table<T> {
    values: Vec<T>,
    tree: Tree,
    exact_hosts: HashMap<Box<str>, NodeId>,
    /// By the suffix with its dot: `.example.com`.
    host_suffixes: HashMap<Box<str>, NodeId>,
    any_host: Option<NodeId>,
    /// Indices of `values` in match order.
    order: Vec<usize>,
}

/// What a lookup found.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, T> {
    /// The route.
    Found(&'a T),
    /// The path is covered, the method is not (RFC 9110 section 15.5.6).
    MethodRefused {
        /// The value of `Allow`: `GET, POST`.
        allow: &'a HeaderValue,
        /// The first of the routes that cover the path, for the log.
        some: &'a T,
    },
    /// No route covers the path.
    Missing,
}

impl<T> Table<T> {
    /// The values, in the order of adding.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }

    fn new(tree: Tree, hosts: HashMap<Option<HostPattern>, NodeId>, values: Vec<T>) -> Self {
        let mut sorted: Vec<_> = hosts.into_iter().collect();
        sorted.sort_by(|(first, _), (second, _)| by_specificity(first.as_ref(), second.as_ref()));
        let mut table = Self {
            values,
            tree,
            exact_hosts: HashMap::new(),
            host_suffixes: HashMap::new(),
            any_host: None,
            order: Vec::new(),
        };
        for (host, root) in sorted {
            table.tree.append_in_order(root, &mut table.order);
            match host {
                None => table.any_host = Some(root),
                Some(HostPattern::Exact(name)) => drop(table.exact_hosts.insert(name, root)),
                Some(HostPattern::Below(suffix)) => drop(table.host_suffixes.insert(suffix, root)),
            }
        }
        table
    }

    /// The route for a request. `host` is as [`Host::name`] spells it, `path` as [`Target::matching`] does. Allocates
    /// nothing.
    ///
    /// [`Host::name`]: crate::http::headers::Host::name
    /// [`Target::matching`]: crate::http::target::Target::matching
    #[must_use]
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Lookup<'_, T> {
        match self.leaf(host, path) {
            Some(leaf) => self.of_method(leaf, method),
            None => Lookup::Missing,
        }
    }

    fn leaf(&self, host: &str, path: &str) -> Option<&Leaf> {
        if !self.exact_hosts.is_empty()
            && let Some(&root) = self.exact_hosts.get(host)
            && let Some(leaf) = self.tree.find(root, path)
        {
            return Some(leaf);
        }
        if !self.host_suffixes.is_empty() {
            // From the left, so that the longest suffix is first; a suffix leaves at least one label before it.
            for dot in memchr::memchr_iter(b'.', host.as_bytes()).filter(|&dot| dot > 0) {
                if let Some(&root) = self.host_suffixes.get(&host[dot..])
                    && let Some(leaf) = self.tree.find(root, path)
                {
                    return Some(leaf);
                }
            }
        }
        self.tree.find(self.any_host?, path)
    }

    fn of_method<'a>(&'a self, leaf: &'a Leaf, method: &Method) -> Lookup<'a, T> {
        let value = |index: usize| self.values.get(index);
        if let Some(route) = leaf.routes.iter().find(|route| route.covers(method)) {
            return value(route.index).map_or(Lookup::Missing, Lookup::Found);
        }
        match leaf.routes.first().and_then(|route| value(route.index)) {
            Some(some) => Lookup::MethodRefused {
                allow: &leaf.allow,
                some,
            },
            None => Lookup::Missing,
        }
    }

    /// For each pattern of a host the route that each of `methods` leads to, by its index; `None` where the method is
    /// refused.
    pub fn by_method<'a, const N: usize>(
        &'a self,
        methods: &'a [Method; N],
    ) -> impl Iterator<Item = [Option<usize>; N]> + 'a {
        self.tree.leaves().iter().map(move |leaf| {
            methods
                .each_ref()
                .map(|method| Some(leaf.routes.iter().find(|route| route.covers(method))?.index))
        })
    }

    /// The value that was added with this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.values.get(index)
    }

    /// All routes in match order: the most specific host first, then the most specific path.
    pub fn in_order(&self) -> impl Iterator<Item = &T> {
        self.order.iter().filter_map(|&index| self.values.get(index))
    }
}

/// Exact hosts by name, then suffixes from the longest, then routes without a host.
fn by_specificity(first: Option<&HostPattern>, second: Option<&HostPattern>) -> Ordering {
    let rank = |host: Option<&HostPattern>| match host {
        Some(HostPattern::Exact(_)) => 0,
        Some(HostPattern::Below(_)) => 1,
        None => 2,
    };
    rank(first)
        .cmp(&rank(second))
        .then_with(|| match (first, second) {
            (Some(HostPattern::Exact(first)), Some(HostPattern::Exact(second))) => first.cmp(second),
            (Some(HostPattern::Below(first)), Some(HostPattern::Below(second))) => {
                second.len().cmp(&first.len()).then_with(|| first.cmp(second))
            }
            _ => Ordering::Equal,
        })
}
