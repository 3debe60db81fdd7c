//! Every reason for which the gateway itself answers a request, and what each one means to the client and in the log.
//!
//! A closed list without free text: what a client may read is decided here once, and cannot leak a detail of one
//! request. What was special about a request (route, rule, issuer) goes into its log line, next to [`Refusal::reason`].

use http::StatusCode;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $reason:literal, $message:literal;)*) => {
        /// Why the gateway answers instead of the app.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// All of them, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status code of the answer (RFC 9110 section 15).
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The reason as it stands in the access log, in metrics and in `explain`: a stable name for machines.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// What the client may read. Never more than the status means.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

refusals! {
    // 400: what was sent has no single meaning.
    /// The request head is not HTTP (RFC 9112 section 2).
    MalformedHead = BAD_REQUEST, "malformed-head", "Bad request";
    /// HTTP without TLS on a port that speaks HTTPS.
    CleartextOnTls = BAD_REQUEST, "cleartext-on-tls", "This port speaks HTTPS";
    /// Two parties could disagree about where this request ends (RFC 9112 sections 6 and 11.2).
    AmbiguousFraming = BAD_REQUEST, "ambiguous-framing", "Bad request";
    /// The target is not in origin form (RFC 9112 section 3.2.1).
    TargetForm = BAD_REQUEST, "target-form", "Bad request";
    /// The target holds a `#`, a control byte or a byte outside ASCII.
    TargetByte = BAD_REQUEST, "target-byte", "Bad request";
    /// The path has a `.` or `..` segment in some spelling.
    PathDotSegment = BAD_REQUEST, "path-dot-segment", "Bad request";
    /// The path has `%2f`, and the route does not accept `encoded-slash`.
    PathEncodedSlash = BAD_REQUEST, "path-encoded-slash", "Bad request";
    /// The path has a `\` or `%5c`.
    PathBackslash = BAD_REQUEST, "path-backslash", "Bad request";
    /// The path has an encoded control byte, `%00` among them.
    PathEncodedControl = BAD_REQUEST, "path-encoded-control", "Bad request";
    /// The path has a `%` that two hexadecimal digits do not follow.
    PathBadEncoding = BAD_REQUEST, "path-bad-encoding", "Bad request";
    /// The path has escapes that are not UTF-8, and the route does not accept `not-utf8`.
    PathNotUtf8 = BAD_REQUEST, "path-not-utf8", "Bad request";
    /// The path has a letter that was escaped twice (`%2561`), and the route does not accept `double-encoding`.
    PathDoubleEncoding = BAD_REQUEST, "path-double-encoding", "Bad request";
    /// The path has `//`, and the route does not accept `empty-segment`; or it begins with `//`.
    PathEmptySegment = BAD_REQUEST, "path-empty-segment", "Bad request";
    /// The path has a `;`, and the route does not accept `path-parameter`.
    PathParameter = BAD_REQUEST, "path-parameter", "Bad request";
    /// No Host and no `:authority` (RFC 9112 section 3.2).
    HostMissing = BAD_REQUEST, "host-missing", "Bad request";
    /// More than one Host (RFC 9112 section 3.2).
    HostRepeated = BAD_REQUEST, "host-repeated", "Bad request";
    /// A Host that is not `uri-host [ ":" port ]`.
    HostInvalid = BAD_REQUEST, "host-invalid", "Bad request";
    /// `:authority` and Host name different places (RFC 9113 section 8.3.1).
    HostMismatch = BAD_REQUEST, "host-mismatch", "Bad request";
    /// A header or a query parameter that carries the credential came more than once.
    CredentialRepeated = BAD_REQUEST, "credential-repeated", "Bad request";
    /// An upgrade with a body, or with a method other than GET.
    UpgradeInvalid = BAD_REQUEST, "upgrade-invalid", "Bad request";
    /// The body for one of our own endpoints is not the JSON object or form it should be.
    FormMalformed = BAD_REQUEST, "form-malformed", "Bad request";
    /// What was given as an email address is none.
    EmailInvalid = BAD_REQUEST, "email-invalid", "Invalid email address";
    /// A display name that is too long or holds control characters.
    NameInvalid = BAD_REQUEST, "name-invalid", "Invalid name";
    /// A new password is shorter than `password.min_length`.
    PasswordTooShort = BAD_REQUEST, "password-too-short", "Password too short";
    /// A password of more than 4 KiB.
    PasswordTooLong = BAD_REQUEST, "password-too-long", "Password too long";
    /// A new password that stands in every attacker's list, or is the email address itself.
    PasswordCommon = BAD_REQUEST, "password-common", "Password too common";

    /// A one-time code that is none of ours, was used, has expired, or belongs to another host, browser or session.
    CodeRefused = BAD_REQUEST, "code-refused", "Invalid code";

    /// What a client without cookies asks for at the beginning of a sign-in is not valid, or its redirect URI is not listed.
    ClientRequestInvalid = BAD_REQUEST, "client-request-invalid", "Bad request";
    /// A sign-in with a provider that did not begin in this browser, took too long, or was completed before.
    AttemptRefused = BAD_REQUEST, "attempt-refused", "Bad request";
    /// A browser was signed in several times in a row for one page, and none of the sessions counted there.
    SignInLoop = BAD_REQUEST, "sign-in-loop", "Bad request";
    /// What a provider sent the browser back with is no answer to a sign-in, or is another provider's (RFC 9207).
    ProviderAnswerInvalid = BAD_REQUEST, "provider-answer-invalid", "Bad request";
    /// A logout token of a provider that is not valid, or was used before (OpenID Connect Back-Channel Logout 1.0).
    LogoutTokenRefused = BAD_REQUEST, "logout-token-refused", "Bad request";

    /// A proxy that asks about a request does not say its method, host or URI, or says them in fields of two families.
    OriginalMissing = BAD_REQUEST, "original-missing", "Bad request";
    /// The same says one of them more than once.
    OriginalRepeated = BAD_REQUEST, "original-repeated", "Bad request";
    /// The same says one of them in a form that no request has.
    OriginalInvalid = BAD_REQUEST, "original-invalid", "Bad request";
    /// The same says two different things in fields of two families.
    OriginalMismatch = BAD_REQUEST, "original-mismatch", "Bad request";

    // 401: who is asking is not known.
    /// The route needs a caller and no source held a credential.
    CredentialMissing = UNAUTHORIZED, "credential-missing", "Unauthorized";
    /// The credential in a header is empty or not text.
    CredentialMalformed = UNAUTHORIZED, "credential-malformed", "Invalid token";
    /// Larger than any token we read.
    TokenTooLarge = UNAUTHORIZED, "token-too-large", "Invalid token";
    /// Not three parts of strict base64url with JSON objects in the first two (RFC 7515 section 7.1).
    TokenMalformed = UNAUTHORIZED, "token-malformed", "Invalid token";
    /// Five parts: an encrypted token (RFC 7516), which we do not take.
    TokenEncrypted = UNAUTHORIZED, "token-encrypted", "Invalid token";
    /// A member of the header or a claim stands twice.
    TokenDuplicateName = UNAUTHORIZED, "token-duplicate-name", "Invalid token";
    /// `crit` is present (RFC 7515 section 4.1.11); we know no extension.
    TokenCritical = UNAUTHORIZED, "token-critical", "Invalid token";
    /// `typ` says that this is another kind of token (RFC 8725 section 3.11).
    TokenType = UNAUTHORIZED, "token-type", "Invalid token";
    /// `alg` is not on the issuer's list.
    AlgorithmRefused = UNAUTHORIZED, "algorithm-refused", "Invalid token";
    /// `iss` is missing or not a string.
    IssuerMalformed = UNAUTHORIZED, "issuer-malformed", "Invalid token";
    /// `iss` is no configured issuer.
    IssuerUnknown = UNAUTHORIZED, "issuer-unknown", "Invalid token";
    /// The issuer has no such key, or none for this algorithm.
    KeyUnknown = UNAUTHORIZED, "key-unknown", "Invalid token";
    /// The signature is not by a key of the issuer.
    SignatureInvalid = UNAUTHORIZED, "signature-invalid", "Invalid token";
    /// `aud` is missing or not a string or an array of strings.
    AudienceMalformed = UNAUTHORIZED, "audience-malformed", "Invalid token";
    /// `aud` names another audience.
    AudienceRefused = UNAUTHORIZED, "audience-refused", "Invalid token";
    /// `sub` is missing, empty or not a string.
    SubjectMalformed = UNAUTHORIZED, "subject-malformed", "Invalid token";
    /// `exp`, `nbf` or `iat` is not a number, or `exp` is missing, or `iat` is where a rule needs it.
    TimeMalformed = UNAUTHORIZED, "time-malformed", "Invalid token";
    /// `exp` is not in the future.
    Expired = UNAUTHORIZED, "expired", "Invalid token";
    /// `nbf` or `iat` is in the future.
    NotYetValid = UNAUTHORIZED, "not-yet-valid", "Invalid token";
    /// `iat` is longer ago than the issuer's `max_age`.
    TooOld = UNAUTHORIZED, "too-old", "Invalid token";
    /// The token, its session, or all of its subject's, was revoked.
    Revoked = UNAUTHORIZED, "revoked", "Invalid token";
    /// The account has other roles or another name since the token was made; a new one can be had.
    Stale = UNAUTHORIZED, "stale", "Invalid token";
    /// A refresh token that is none of ours, or whose session is over.
    RefreshRefused = UNAUTHORIZED, "refresh-refused", "Invalid token";
    /// A refresh token that had been used before: its session was ended (RFC 9700 section 4.14.2).
    RefreshReused = UNAUTHORIZED, "refresh-reused", "Invalid token";
    /// No such account, a wrong password, or a disabled account: the answer does not tell which.
    LoginRefused = UNAUTHORIZED, "login-refused", "Invalid credentials";
    /// The route asks for a more recent or a stronger sign-in, or one with another provider (RFC 9470).
    AuthenticationInsufficient = UNAUTHORIZED, "authentication-insufficient", "Unauthorized";

    // 403: who is asking is known, and may not.
    /// A rule on roles said no.
    RoleRefused = FORBIDDEN, "role-refused", "Forbidden";
    /// A rule on claims said no.
    ClaimRefused = FORBIDDEN, "claim-refused", "Forbidden";
    /// A scope is missing.
    ScopeRefused = FORBIDDEN, "scope-refused", "Forbidden";
    /// None of the alternatives of `any` applies.
    AnyRefused = FORBIDDEN, "any-refused", "Forbidden";
    /// The condition of the route (`when`) does not hold, or has no answer.
    ConditionFalse = FORBIDDEN, "when-refused", "Forbidden";
    /// The client is in another network than the route is for, or its address is not known.
    NetworkRefused = FORBIDDEN, "network-refused", "Forbidden";
    /// A form to sign in on a host, or over a scheme, where the session's cookie could not be kept.
    SignInElsewhere = FORBIDDEN, "sign-in-elsewhere", "Forbidden";
    /// The provider says that the user did not agree to the sign-in.
    SignInDenied = FORBIDDEN, "sign-in-denied", "Forbidden";
    /// The provider's `allow` names other users.
    SignInNotAllowed = FORBIDDEN, "sign-in-not-allowed", "Forbidden";
    /// A sign-in that is not what the page asks for that it was made for: `acr`, `max_age` or `provider` of the route.
    SignInInsufficient = FORBIDDEN, "sign-in-insufficient", "Forbidden";
    /// Something that the session was opened too long ago for.
    SignInTooOld = FORBIDDEN, "sign-in-too-old", "Forbidden";
    /// The account of an identity at a provider is disabled.
    AccountDisabled = FORBIDDEN, "account-disabled", "Forbidden";
    /// A cookie was the credential and another site asked.
    CrossSite = FORBIDDEN, "cross-site", "Forbidden";

    /// A peer that is not in `trusted_proxies` asks about a request of another client.
    PeerUntrusted = FORBIDDEN, "peer-untrusted", "Forbidden";
    /// A condition in the query of a proxy that asks about a request does not hold for the caller.
    ConditionRefused = FORBIDDEN, "condition-refused", "Forbidden";
    /// A condition in the query of a proxy that asks about a request is not known here.
    ConditionUnknown = FORBIDDEN, "condition-unknown", "Forbidden";

    // 404, 405, 408, 409, 413, 414, 415, 421, 429, 431.
    /// No route covers the path.
    RouteMissing = NOT_FOUND, "route-missing", "Not found";
    /// The path is covered, the method is not.
    MethodRefused = METHOD_NOT_ALLOWED, "method-refused", "Method not allowed";
    /// CONNECT or TRACE, which no route can name.
    MethodUnsupported = METHOD_NOT_ALLOWED, "method-unsupported", "Method not allowed";
    /// The client did not send the whole request in time.
    ClientTimeout = REQUEST_TIMEOUT, "client-timeout", "Request timeout";
    /// There is an account with this email address already.
    EmailTaken = CONFLICT, "email-taken", "Email address already registered";
    /// An identity at a provider that belongs to another account.
    IdentityTaken = CONFLICT, "identity-taken", "Identity linked to another account";
    /// An account with as many identities at providers as it may have.
    IdentitiesTooMany = CONFLICT, "identities-too-many", "Too many linked providers";
    /// The last way to sign in to an account, which stays.
    LastSignIn = CONFLICT, "last-sign-in", "Last way to sign in";
    /// The body is longer than `max_body_bytes`.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "Content too large";
    /// The target is longer than we read.
    TargetTooLong = URI_TOO_LONG, "target-too-long", "URI too long";
    /// The body for one of our own endpoints is neither JSON nor a form.
    FormTypeRefused = UNSUPPORTED_MEDIA_TYPE, "form-type-refused", "Unsupported media type";
    /// The TLS connection was made for another host (RFC 9110 section 15.5.20).
    Misdirected = MISDIRECTED_REQUEST, "misdirected", "Misdirected request";
    /// Too many attempts to sign in or to register, of this account or from this address.
    Throttled = TOO_MANY_REQUESTS, "throttled", "Too many requests";
    /// The account has opened as many sessions within a minute as it may.
    SessionsThrottled = TOO_MANY_REQUESTS, "sessions-throttled", "Too many requests";
    /// The route's `rate_limit` is reached.
    RateLimited = TOO_MANY_REQUESTS, "rate-limited", "Too many requests";
    /// Too many tokens from this address had a bad signature, so that no further one is verified now.
    SignaturesThrottled = TOO_MANY_REQUESTS, "signatures-throttled", "Too many requests";
    /// The head is longer than `max_header_bytes`.
    HeadersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "Request header fields too large";

    // 5xx: not the client's fault.
    /// An invariant of ours did not hold; the diagnostics log has it.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Internal server error";
    /// A provider answered with an error.
    ProviderRefused = BAD_GATEWAY, "provider-refused", "Bad gateway";
    /// The ID token of a provider, or what belongs to it, is not valid.
    IdTokenRefused = BAD_GATEWAY, "id-token-refused", "Bad gateway";
    /// The app could not be connected to.
    UpstreamUnreachable = BAD_GATEWAY, "upstream-unreachable", "Bad gateway";
    /// The app's certificate or TLS handshake was not acceptable.
    UpstreamTls = BAD_GATEWAY, "upstream-tls", "Bad gateway";
    /// The app closed the connection before it answered.
    UpstreamClosed = BAD_GATEWAY, "upstream-closed", "Bad gateway";
    /// What the app answered is not HTTP, or breaks its rules.
    UpstreamProtocol = BAD_GATEWAY, "upstream-protocol", "Bad gateway";
    /// No server of the upstream is healthy.
    UpstreamDown = BAD_GATEWAY, "upstream-down", "Bad gateway";
    /// All connections to the upstream are in use and none became free in time.
    UpstreamBusy = SERVICE_UNAVAILABLE, "upstream-busy", "Service unavailable";
    /// As many requests wait for a connection to the server as may.
    UpstreamFull = SERVICE_UNAVAILABLE, "upstream-full", "Service unavailable";
    /// The route is under `maintenance`.
    Maintenance = SERVICE_UNAVAILABLE, "maintenance", "Service unavailable";
    /// The issuer's keys were not fetched yet, so its tokens cannot be verified.
    KeysUnavailable = SERVICE_UNAVAILABLE, "keys-unavailable", "Service unavailable";
    /// A provider does not answer, so that signing in with it is not possible.
    ProviderUnavailable = SERVICE_UNAVAILABLE, "provider-unavailable", "Service unavailable";
    /// Revocations have not been readable for too long, or the state failed, so no caller can be admitted.
    StateUnavailable = SERVICE_UNAVAILABLE, "state-unavailable", "Service unavailable";
    /// So much work with the state, or so many passwords, wait already that this request is turned away.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Service unavailable";
    /// The request has passed through here before, or through too many others (RFC 8586).
    LoopDetected = LOOP_DETECTED, "loop-detected", "Loop detected";
    /// The app did not accept the connection in time.
    UpstreamConnectTimeout = GATEWAY_TIMEOUT, "upstream-connect-timeout", "Gateway timeout";
    /// The app did not answer in time.
    UpstreamTimeout = GATEWAY_TIMEOUT, "upstream-timeout", "Gateway timeout";
}

impl Refusal {
    /// Whether the client sent a credential that is no good, as against none (RFC 6750 section 3.1, `invalid_token`).
    #[must_use]
    pub fn is_invalid_token(self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
            && !matches!(
                self,
                Self::CredentialMissing | Self::LoginRefused | Self::AuthenticationInsufficient
            )
    }

    /// Whether something failed (the app, the state, an issuer, the gateway itself), as against a request that was refused
    /// for what it is.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.status().is_server_error() && self != Self::Maintenance
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_unique_and_no_message_says_more_than_its_status() {
        let mut reasons: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            let allowed: &[&str] = match refusal.status().as_u16() {
                // Errors in a form are for the client that filled it in.
                400 => &[
                    "Bad request",
                    "Invalid code",
                    "This port speaks HTTPS",
                    "Invalid email address",
                    "Invalid name",
                    "Password too short",
                    "Password too long",
                    "Password too common",
                ],
                401 => &["Unauthorized", "Invalid token", "Invalid credentials"],
                403 => &["Forbidden"],
                500 => &["Internal server error"],
                502 => &["Bad gateway"],
                503 => &["Service unavailable"],
                504 => &["Gateway timeout"],
                _ => continue,
            };
            assert!(allowed.contains(&refusal.message()), "{refusal:?}");
        }
    }
}
