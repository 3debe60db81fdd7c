//! Servers that have a name, by the resolver of the system.

use super::support::{App, Gateway, eventually};

fn gateway(server: &str) -> Gateway {
    Gateway::start(&format!(
        "[upstreams.app]\nservers = [\"{server}\"]\n[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n"
    ))
}

#[test]
fn server_with_a_name_is_reached_whichever_family_it_listens_on() {
    let app = App::start();
    // `localhost` may have an address of IPv6 too, at which no app listens.
    let gateway = gateway(&format!("http://localhost:{}", app.address.port()));
    for _ in 0..3 {
        gateway.get("/").expect(200);
    }
    assert_eq!(app.last().header("host"), Some("app.test"));
}

#[test]
fn name_that_does_not_exist_is_an_error_for_its_requests_alone() {
    let gateway = gateway("http://nowhere.invalid:3000");
    let response = gateway.get("/");
    assert!(matches!(response.status, 502 | 504), "{response:?}");
    gateway.diagnostic("the name of the server cannot be resolved");
    eventually("it is unreachable", || {
        let response = gateway.get("/");
        gateway.log_of(&response)["reason"] == "upstream-unreachable"
    });
}
