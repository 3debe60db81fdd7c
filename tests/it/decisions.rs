//! One decision: `explain`, the `[[tests]]` of a file and the running gateway say the same of a request.

use crate::support::*;

#[test]
fn explain_refuses_a_repeated_field_behind_a_good_token() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { header = \"x-token\" }]\n\
         [[routes]]\npath = \"/*\"\nupstream = \"app\"\n",
    );
    let token = corp_token("alice", &[]);
    let request = Request::get("/x")
        .bearer(&token)
        .header("X-Token", "a")
        .header("X-Token", "b");
    let refused = gateway.send(&request).expect(400);
    assert_eq!(gateway.log_of(&refused)["reason"], "credential-repeated");
    let bearer = format!("Authorization: Bearer {token}");
    let said = gateway
        .command([
            "explain",
            "--format",
            "json",
            "GET",
            "/x",
            "-H",
            &bearer,
            "-H",
            "X-Token: a",
            "-H",
            "X-Token: b",
        ])
        .expect(3)
        .json();
    assert_eq!(
        (said["status"].as_u64(), said["reason"].as_str()),
        (Some(400), Some("credential-repeated"))
    );
}
