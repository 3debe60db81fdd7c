//! Issuers of many tenants (Microsoft Entra): one `iss` for each, which differ in one segment of the path.
//!
//! Enters: an `iss` or a template with `{tid}`, from the TOML or from a JWK. Leaves: whether a token's `iss` is one of
//! them, and of which tenant. What must never happen here: a tenant that holds a `/`, so that one site could pass for
//! another; a token whose `tid` is not the tenant in its `iss`.

/// What stands for the tenant in the TOML.
pub(super) const PLACEHOLDER: &str = "{tid}";
/// What stands for it in Microsoft's discovery documents and key sets.
const PUBLISHED: &str = "{tenantid}";
/// The tenant under which the discovery document of all tenants is found.
const ORGANIZATIONS: &str = "organizations";

/// An exact `iss`, or a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IssuerName {
    whole: String,
    /// What stands before the tenant and behind it.
    around: Option<(usize, usize)>,
}

impl IssuerName {
    /// As the TOML has it. `None`: the placeholder stands there more than once, or is not one whole segment of the path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let around = match text
            .match_indices(PLACEHOLDER)
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [] => None,
            [at] => {
                let behind = at + PLACEHOLDER.len();
                let (before, after) = (&text[..*at], &text[behind..]);
                let is_in_path = before
                    .split_once("://")
                    .is_some_and(|(_, rest)| rest.len() > 1 && rest.ends_with('/'));
                let is_whole =
                    is_in_path && !before.ends_with("//") && (after.is_empty() || after.starts_with('/'));
                if !is_whole || before.contains(['?', '#']) {
                    return None;
                }
                Some((*at, behind))
            }
            _ => return None,
        };
        Some(Self {
            whole: text.to_owned(),
            around,
        })
    }

    /// One that is compared as it is, whatever it holds.
    pub(super) fn exact(text: &str) -> Self {
        Self {
            whole: text.to_owned(),
            around: None,
        }
    }

    /// As a discovery document or a JWK has it.
    pub(super) fn published(text: &str) -> Option<Self> {
        Self::parse(&text.replace(PUBLISHED, PLACEHOLDER))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.whole
    }

    pub(super) fn is_template(&self) -> bool {
        self.around.is_some()
    }

    /// The tenant of this `iss`, where this is a template and `iss` one made of it.
    pub(super) fn tenant<'i>(&self, iss: &'i str) -> Option<&'i str> {
        let (before, behind) = self.around?;
        let tenant = iss
            .strip_prefix(&self.whole[..before])?
            .strip_suffix(&self.whole[behind..])?;
        is_tenant(tenant).then_some(tenant)
    }

    /// Whether `iss` is this one, or is made of this template.
    pub(super) fn covers(&self, iss: &str) -> bool {
        if self.is_template() {
            self.tenant(iss).is_some()
        } else {
            self.whole == iss
        }
    }

    /// Whether some `iss` is covered by both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self.is_template(), other.is_template()) {
            (true, false) => self.covers(&other.whole),
            (false, _) => other.covers(&self.whole),
            (true, true) => {
                let ((before, after), (others_before, others_after)) = (self.sides(), other.sides());
                let overlap = before.starts_with(others_before) || others_before.starts_with(before);
                if before == others_before {
                    after == others_after
                } else {
                    overlap && (after.ends_with(others_after) || others_after.ends_with(after))
                }
            }
        }
    }

    fn sides(&self) -> (&str, &str) {
        self.around.map_or((self.as_str(), ""), |(before, behind)| {
            (&self.whole[..before], &self.whole[behind..])
        })
    }

    /// The issuer whose discovery document is that of all tenants; the `iss` itself where this is no template.
    pub(super) fn of_discovery(&self) -> String {
        self.whole.replace(PLACEHOLDER, ORGANIZATIONS)
    }
}

/// Which tenants are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Every one.
    Any,
    /// These, each a UUID in lower case.
    Listed(Vec<String>),
}

impl Tenants {
    /// Whether this one is among them.
    pub(super) fn have(&self, tenant: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tenants) => tenants.iter().any(|listed| listed == tenant),
        }
    }

    /// Whether more than one is taken: then an id that is unique within a tenant is not unique here, and an address says
    /// what its tenant likes.
    pub(super) fn are_many(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tenants) => tenants.len() > 1,
        }
    }
}

/// A UUID (RFC 9562 section 4) in lower case, as Microsoft writes tenants: of two spellings one would be another subject.
pub(super) fn is_tenant(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    #[test]
    fn the_tenant_is_one_whole_segment_of_the_path_and_stands_once() {
        for text in [
            "https://login.example.com/{tid}/v2.0",
            "https://sts.example.net/{tid}/",
            "https://id.example.com/{tid}",
        ] {
            assert!(IssuerName::parse(text).unwrap().is_template(), "{text}");
        }
        assert!(
            !IssuerName::parse("https://login.example.com/x/v2.0")
                .unwrap()
                .is_template()
        );
        for text in [
            "{tid}",
            "https://{tid}",
            "https://{tid}/v2.0",
            "https://{tid}.example.com/",
            "https://example.com{tid}/",
            "https://example.com/x{tid}/v2.0",
            "https://example.com/{tid}x/v2.0",
            "https://example.com//{tid}/v2.0",
            "https://example.com/{tid}/{tid}",
            "https://example.com/?t=/{tid}/",
            "/{tid}/v2.0",
        ] {
            assert_eq!(IssuerName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_iss_is_of_a_template_only_with_a_uuid_in_its_place() {
        let template = IssuerName::published("https://login.example.com/{tenantid}/v2.0").unwrap();
        assert_eq!(template.as_str(), "https://login.example.com/{tid}/v2.0");
        assert_eq!(
            template.tenant(&format!("https://login.example.com/{TENANT}/v2.0")),
            Some(TENANT)
        );
        for tenant in [
            "",
            "common",
            "{tid}",
            "72F988BF-86F1-41AF-91AB-2D7CD011DB47",
            "72f988bf-86f1-41af-91ab-2d7cd011db4",
            "72f988bf-86f1-41af-91ab-2d7cd011db47/x",
            "72f988bf-86f1-41af-91ab-2d7cd011db4g",
            "72f988bf086f1041af091ab02d7cd011db47",
        ] {
            assert_eq!(
                template.tenant(&format!("https://login.example.com/{tenant}/v2.0")),
                None,
                "{tenant}"
            );
        }
        for iss in ["https://login.example.com/v2.0", "https://login.example.com/", ""] {
            assert!(!template.covers(iss), "{iss}");
        }
        let exact = IssuerName::parse(&format!("https://login.example.com/{TENANT}/v2.0")).unwrap();
        assert!(template.meets(&exact) && exact.meets(&template) && template.meets(&template));
        assert!(
            !IssuerName::parse("https://login.example.com/x/v2.0")
                .unwrap()
                .meets(&template)
        );
        assert_eq!(
            template.of_discovery(),
            "https://login.example.com/organizations/v2.0"
        );
    }
}
