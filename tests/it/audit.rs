//! The audit log through the real listener and the real commands: each act has its line, which is there when the act is
//! answered, and an act that cannot be written down is refused.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::support::openid::{Browser, CLIENT_SECRET, OpenId};
use crate::support::people::{PASSWORD, ROUTES, post_form, post_json, sign_in_setup};
use crate::support::{App, Gateway, Request, Setup, eventually, gateway::before};

const AUDIT: &str = "[audit]\nfile = \"audit.log\"\n";

fn lines(setup: &Setup) -> Vec<Value> {
    let text = std::fs::read_to_string(setup.path("audit.log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines since the first `seen` ones, without times.
fn since(setup: &Setup, seen: &mut usize) -> Vec<Value> {
    let all = lines(setup);
    let mut new = all[*seen..].to_vec();
    *seen = all.len();
    new.iter_mut().for_each(|line| {
        let time = line.as_object_mut().unwrap().remove("time").unwrap();
        assert_eq!(time.as_str().unwrap().len(), 24, "{time}");
    });
    new
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

fn password_form(email: &str, password: &str) -> Request {
    post_form("/auth/login", &[("email", email), ("password", password)])
}

#[test]
fn sign_in_sign_out_and_refusals_are_written_before_the_answer() {
    let app = App::start();
    let setup = sign_in_setup(&app, AUDIT);
    let ann = setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let mut seen = 0;
    assert_eq!(
        names(&since(&gateway.setup, &mut seen)),
        ["account-created", "signing-key-created", "started"]
    );
    let mode = gateway
        .setup
        .path("audit.log")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let cookie = gateway.sign_in("ann@example.com");
    let signed_in = since(&gateway.setup, &mut seen);
    let session = signed_in[0]["session"].as_str().unwrap().to_owned();
    let account = json!({"id": ann, "email": "ann@example.com"});
    let actor = json!({"kind": "account", "id": ann, "email": "ann@example.com"});
    let id = gateway.log_line(|line| line["path"] == "/auth/login")["request_id"].clone();
    assert_eq!(
        signed_in,
        [json!({
            "event": "signed-in", "account": account, "session": session, "kind": "browser", "provider": null,
            "actor": actor, "client": "127.0.0.1", "request_id": id,
        })]
    );

    for (email, password) in [
        ("ann@example.com", "wrong password"),
        ("nobody@example.com", PASSWORD),
    ] {
        gateway.send(&password_form(email, password)).expect(401);
        let refused = since(&gateway.setup, &mut seen);
        assert_eq!(names(&refused), ["sign-in-refused"]);
        assert_eq!(refused[0]["email"], email);
        assert_eq!(refused[0]["reason"], "login-refused");
        assert_eq!(refused[0]["actor"], json!({"kind": "client"}));
        assert_eq!(refused[0]["client"], "127.0.0.1");
    }

    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    let ended = since(&gateway.setup, &mut seen);
    assert_eq!(names(&ended), ["session-ended"]);
    assert_eq!(ended[0]["session"], session);
    assert_eq!(ended[0]["cause"], "signed-out");
    assert_eq!(ended[0]["account"], account);
    assert_eq!(ended[0]["actor"], actor);

    // Clients, and a refresh token that is used twice.
    let tokens = gateway.sign_in_client("ann@example.com");
    assert_eq!(since(&gateway.setup, &mut seen)[0]["kind"], "client");
    let refresh = |token: &Value| gateway.send(&post_json("/auth/refresh", &json!({"refreshToken": token})));
    let second = refresh(&tokens["refreshToken"]).expect(200).json();
    refresh(&second["refreshToken"]).expect(200);
    assert_eq!(
        since(&gateway.setup, &mut seen),
        [] as [Value; 0],
        "a renewal is no act"
    );
    refresh(&tokens["refreshToken"]).expect(401);
    let ended = since(&gateway.setup, &mut seen);
    assert_eq!(ended[0]["cause"], "refresh-token-reused");

    let text = std::fs::read_to_string(gateway.setup.path("audit.log")).unwrap();
    for secret in [
        PASSWORD,
        "wrong password",
        tokens["refreshToken"].as_str().unwrap(),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(!text.contains(cookie.split_once('=').unwrap().1), "{text}");
}

#[test]
fn address_that_a_client_made_up_is_cut_and_escaped() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    let hostile = format!(
        "\u{1b}[2J\n{{\"event\":\"started\"}}\n{}@example.com",
        "x".repeat(3000)
    );
    gateway
        .send(&password_form(&hostile, "some password"))
        .expect(401);
    let all = lines(&gateway.setup);
    assert_eq!(names(&all), ["signing-key-created", "started", "sign-in-refused"]);
    assert!(all[2]["email"].as_str().unwrap().chars().count() <= 257);
}

#[test]
fn flood_of_attempts_ends_in_answers_without_lines() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    let form = password_form("ann@example.com", "some password");
    let mut refused = 0;
    while gateway.send(&form).status == 401 {
        refused += 1;
    }
    for _ in 0..5 {
        gateway.send(&form).expect(429);
    }
    let all = lines(&gateway.setup);
    let written = all.iter().filter(|line| line["event"] == "sign-in-refused");
    assert_eq!(written.count(), refused);
}

#[test]
fn registration_and_change_of_password_are_written() {
    let app = App::start();
    let setup = sign_in_setup(&app, &format!("{AUDIT}[password]\nregistration = true\n"));
    let gateway = setup.start();
    let mut seen = 2;
    let registered = gateway
        .send(&post_form(
            "/auth/register",
            &[("email", "bob@example.com"), ("password", PASSWORD)],
        ))
        .expect(303);
    let new = since(&gateway.setup, &mut seen);
    assert_eq!(names(&new), ["account-created", "signed-in"]);
    assert_eq!(new[0]["actor"], json!({"kind": "client"}));
    let cookie = crate::support::people::session_cookie(&registered).unwrap();
    let other = gateway.sign_in("bob@example.com");
    since(&gateway.setup, &mut seen);
    let change = |current: &str| {
        let fields = [
            ("current_password", current),
            ("new_password", "another long password"),
        ];
        gateway.send(&post_form("/auth/password", &fields).header("Cookie", &cookie))
    };
    change("wrong password").expect(401);
    assert_eq!(names(&since(&gateway.setup, &mut seen)), ["sign-in-refused"]);
    change(PASSWORD).expect(303);
    let new = since(&gateway.setup, &mut seen);
    assert_eq!(
        names(&new),
        ["session-ended", "password-changed", "session-ended", "signed-in"]
    );
    assert_eq!(new[0]["cause"], "password-changed");
    assert_eq!(new[2]["cause"], "replaced");
    assert_eq!(new[1]["actor"]["email"], "bob@example.com");
    gateway.get_with(&other, "/auth/me").expect(401);
}

#[test]
fn commands_write_to_the_same_file() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    let setup = &gateway.setup;
    let id = setup.add_account("ann@example.com", &["user"]);
    let acts = |words: &[&str], input: &str| {
        // What came before is no act of the command.
        let mut seen = lines(setup).len();
        setup.command_with_input(words, input).expect(0);
        let new = since(setup, &mut seen);
        for line in &new {
            assert_eq!(line["actor"]["kind"], "command", "{line}");
            assert_eq!(
                (&line["client"], &line["request_id"]),
                (&Value::Null, &Value::Null)
            );
        }
        new
    };
    assert_eq!(acts(&["user", "list"], ""), [] as [Value; 0], "reading is no act");
    let roles = acts(&["user", "roles", "ann@example.com", "--add", "admin"], "");
    assert_eq!(names(&roles), ["roles-changed"]);
    assert_eq!(roles[0]["before"], json!(["user"]));
    assert_eq!(roles[0]["after"], json!(["admin", "user"]));
    assert_eq!(roles[0]["account"], json!({"id": id, "email": "ann@example.com"}));
    gateway.sign_in("ann@example.com");
    let disabled = acts(&["user", "disable", "ann@example.com"], "");
    assert_eq!(names(&disabled), ["account-disabled", "session-ended"]);
    assert_eq!(disabled[1]["cause"], "account-disabled");
    assert_eq!(
        names(&acts(&["user", "enable", "ann@example.com"], "")),
        ["account-enabled"]
    );
    let password = acts(
        &["user", "password", "ann@example.com"],
        &format!("{PASSWORD} two\n"),
    );
    assert_eq!(names(&password), ["password-changed"]);
    let rotated = acts(&["key", "rotate"], "");
    assert_eq!(names(&rotated), ["signing-key-rotated"]);
    let minted = acts(&["token", "mint", "--subject", "job", "--role", "ops"], "");
    assert_eq!(names(&minted), ["token-minted"]);
    assert_eq!(
        (&minted[0]["subject"], &minted[0]["roles"]),
        (&json!("job"), &json!(["ops"]))
    );
    let revoked = acts(&["revoke", "--issuer", "session", "--token-id", "t1"], "");
    assert_eq!(names(&revoked), ["revoked"]);
    assert_eq!(
        (&revoked[0]["kind"], &revoked[0]["name"]),
        (&json!("token"), &json!("t1"))
    );
    let deleted = acts(&["user", "delete", "ann@example.com", "--yes"], "");
    assert_eq!(names(&deleted), ["account-deleted"]);
}

#[test]
fn sessions_that_a_command_ends_are_written() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    gateway.setup.add_account("ann@example.com", &[]);
    gateway.sign_in("ann@example.com");
    let mut seen = lines(&gateway.setup).len();
    gateway
        .setup
        .command(["session", "revoke", "--all", "ann@example.com"])
        .expect(0);
    let ended = since(&gateway.setup, &mut seen);
    assert_eq!(names(&ended), ["session-ended"]);
    assert_eq!(
        (&ended[0]["cause"], &ended[0]["actor"]["kind"]),
        (&json!("command"), &json!("command"))
    );
}

#[test]
fn sign_in_with_a_provider_and_its_refusal_are_written() {
    let (app, provider) = (App::start(), OpenId::start());
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let rules = "allow = [{ domain = \"example.com\" }]\nroles_claims = [\"groups\"]\n";
    let setup = Setup::new(&before(
        &app,
        &format!("{server}{AUDIT}{}{ROUTES}", provider.table(rules)),
    ));
    setup.write("sso.secret", CLIENT_SECRET);
    let gateway = setup.start();
    let mut seen = lines(&gateway.setup).len();
    Browser::default().sign_in(&gateway, &provider).expect(303);
    let new = since(&gateway.setup, &mut seen);
    assert_eq!(names(&new), ["account-created", "signed-in"]);
    assert_eq!(
        (&new[0]["provider"], &new[1]["provider"]),
        (&json!("sso"), &json!("sso"))
    );
    let before_roles = new[0]["roles"].clone();
    provider.user(json!({
        "sub": "ann-1", "email": "ann@example.com", "email_verified": true, "name": "Ann", "groups": ["new"],
    }));
    Browser::default().sign_in(&gateway, &provider).expect(303);
    let new = since(&gateway.setup, &mut seen);
    assert_eq!(names(&new), ["roles-changed", "signed-in"]);
    assert_eq!(
        (&new[0]["before"], &new[0]["after"]),
        (&before_roles, &json!(["new"]))
    );
    provider.user(json!({"sub": "eve", "email": "eve@elsewhere.example", "email_verified": true}));
    Browser::default().sign_in(&gateway, &provider).expect(403);
    let new = since(&gateway.setup, &mut seen);
    assert_eq!(names(&new), ["sign-in-refused"]);
    assert_eq!(
        (&new[0]["email"], &new[0]["provider"], &new[0]["reason"]),
        (
            &json!("eve@elsewhere.example"),
            &json!("sso"),
            &json!("sign-in-not-allowed")
        )
    );
    // Without an attempt nothing was presented.
    gateway
        .send(&crate::support::people::navigate(
            "/auth/login/sso/return?state=a&code=b",
        ))
        .expect(400);
    assert_eq!(since(&gateway.setup, &mut seen), [] as [Value; 0]);
}

#[test]
fn start_and_reloads_are_written_with_the_hash_of_the_file() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    let hash = |setup: &Setup| {
        let text = std::fs::read(setup.path("gateway.toml")).unwrap();
        let digest = aws_lc_rs_digest(&text);
        json!(digest)
    };
    let all = lines(&gateway.setup);
    assert_eq!(all[1]["sha256"], hash(&gateway.setup));
    assert_eq!(all[1]["actor"], json!({"kind": "gateway"}));
    let good = std::fs::read_to_string(gateway.setup.path("gateway.toml")).unwrap();
    gateway.setup.write("gateway.toml", format!("{good}\n# more\n"));
    eventually("the change is taken", || lines(&gateway.setup).len() > 2);
    let all = lines(&gateway.setup);
    assert_eq!(all[2]["event"], "reloaded");
    assert_eq!(all[2]["sha256"], hash(&gateway.setup));
    gateway
        .setup
        .write("gateway.toml", format!("{good}\n[nonsense]\n"));
    eventually("the change is refused", || lines(&gateway.setup).len() > 3);
    let all = lines(&gateway.setup);
    assert_eq!(all[3]["event"], "reload-refused");
    assert_eq!(all[3]["sha256"], hash(&gateway.setup));
    assert!(
        all[3]["reason"].as_str().unwrap().contains("nonsense"),
        "{}",
        all[3]
    );
}

/// In hexadecimal digits, as `sha256sum` prints it.
fn aws_lc_rs_digest(text: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn rotated_file_is_opened_again_on_sigusr1() {
    let app = App::start();
    let gateway = sign_in_setup(&app, AUDIT).start();
    let path = gateway.setup.path("audit.log");
    std::fs::rename(&path, gateway.setup.path("audit.log.1")).unwrap();
    gateway.signal("USR1");
    gateway.diagnostic("the audit log was opened again");
    gateway
        .send(&password_form("a@example.com", "some password"))
        .expect(401);
    assert_eq!(names(&lines(&gateway.setup)), ["sign-in-refused"]);
}

#[test]
fn full_disk_refuses_sign_ins_and_lets_sessions_go_on_until_there_is_room() {
    const LIMIT: u64 = 4 * 1024 * 1024;
    let app = App::start();
    let setup = sign_in_setup(&app, AUDIT);
    setup.add_account("ann@example.com", &[]);
    let gateway = setup.file_limit(LIMIT).start();
    let cookie = gateway.sign_in("ann@example.com");
    let file = OpenOptions::new()
        .write(true)
        .open(gateway.setup.path("audit.log"))
        .unwrap();
    let length = file.metadata().unwrap().len();
    file.write_at(b"\n", LIMIT - 1).unwrap();
    let form = password_form("ann@example.com", PASSWORD);
    let answer = gateway.send(&form).expect(503);
    assert_eq!(crate::support::people::session_cookie(&answer), None);
    gateway.diagnostic("the audit log cannot be written");
    gateway
        .send(&password_form("ann@example.com", "wrong password"))
        .expect(503);
    gateway.get_with(&cookie, "/x").expect(200);
    let open = || {
        let listed = gateway
            .setup
            .command(["session", "list", "ann@example.com", "--format", "json"]);
        listed.expect(0).json().as_array().unwrap().len()
    };
    assert_eq!(open(), 1, "no session is left of the sign-in that was refused");
    // Signing out holds, although the answer says that something failed.
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(503);
    assert_eq!(open(), 0);
    gateway.get_with(&cookie, "/x").expect(401);
    file.set_len(length).unwrap();
    gateway.send(&form).expect(303);
    gateway.diagnostic("the audit log is written again");
}

#[test]
fn file_that_cannot_be_written_is_an_error_of_the_configuration() {
    for (file, reason) in [("gone/audit.log", "gone"), (".", "it is not a file")] {
        let setup = Setup::new(&format!("[audit]\nfile = \"{file}\"\n"));
        for command in ["check", "run"] {
            let said = setup.command([command]).expect(2).stderr;
            assert!(
                said.contains("gateway.toml:2:") && said.contains(reason),
                "{said}"
            );
        }
        assert_eq!(
            setup
                .command(["user", "add", "a@example.com", "--no-password"])
                .code,
            Some(1)
        );
        let listed = setup.command(["user", "list", "--format", "json"]).expect(0);
        assert_eq!(
            listed.json(),
            json!([]),
            "a command without a log changes nothing"
        );
    }
}

#[test]
fn gateway_without_an_audit_log_writes_none() {
    let app = App::start();
    let gateway: Gateway = sign_in_setup(&app, "").start();
    gateway
        .send(&password_form("a@example.com", "some password"))
        .expect(401);
    assert!(!gateway.setup.path("audit.log").exists());
}
