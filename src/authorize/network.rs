//! Networks of clients.
//!
//! Input: the networks of a rule, and the address of a client. Output: whether it is in one of them. Invariant: an address
//! that is not known is in no network, and outside of none.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rule_name::listed;

/// The networks of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Networks(Vec<IpNet>);

impl Networks {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `client` is known to be in one of them. IPv4 in an IPv6 form is IPv4.
    pub(super) fn contain(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.find(client))
    }

    /// Whether `client` is known to be in none of them.
    pub(super) fn exclude(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| !self.find(client))
    }

    fn find(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.0.iter().any(|network| network.contains(&client))
    }

    /// As the file has them: a single host without its prefix length.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |network: &IpNet| {
            if network.prefix_len() == network.max_prefix_len() {
                network.addr().to_string()
            } else {
                network.to_string()
            }
        };
        self.0.iter().map(name).collect()
    }

    /// For the text of a rule.
    pub(super) fn listed(&self) -> String {
        listed(&self.names())
    }

    /// Whether each of these is inside one of `others`.
    pub(super) fn are_within(&self, others: &Self) -> bool {
        let is_within = |network: &IpNet| others.0.iter().any(|other| other.contains(network));
        self.0.iter().all(is_within)
    }
}

/// What is known of a client, for `explain`.
pub(super) fn detail(client: Option<IpAddr>) -> String {
    client.map_or_else(
        || "the client's address is not known".to_owned(),
        |client| format!("the client's address is `{}`", client.to_canonical()),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn address_is_compared_in_its_own_family_and_an_unknown_one_never_passes() {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        let networks = Networks::new(networks.map(|network| network.parse().unwrap()).to_vec());
        for (client, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("::10.1.2.3", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            let client = Some(client.parse().unwrap());
            assert_eq!(networks.contain(client), is_in, "{client:?}");
            assert_eq!(networks.exclude(client), !is_in, "{client:?}");
        }
        assert!(!networks.contain(None) && !networks.exclude(None));
        let all = Networks::new(vec!["0.0.0.0/0".parse().unwrap()]);
        assert!(!all.contain(Some("2001:db8::1".parse().unwrap())));
        assert_eq!(networks.listed(), "`10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`");
    }
}
