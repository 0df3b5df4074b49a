//! Who may do what: every route with every role below the one it needs.

use crate::routes::{Places, Who, all};
use crate::support::{Options, Server};

#[tokio::test]
async fn every_route_is_closed_to_the_roles_below() {
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let places = Places::make(&owner).await;
    let people = [
        (Who::Guest, owner.invite("guest", &[&places.channel]).await),
        (Who::Member, owner.invite("member", &[&places.channel]).await),
        (Who::Member, owner.invite("bot", &[&places.channel]).await),
        (Who::Auditor, owner.invite("auditor", &[&places.channel]).await),
    ];
    for route in all() {
        for (rank, person) in &people {
            let answer = person.api.send(places.call(&route)).await;
            assert!(answer.status < 500, "{answer}");
            if *rank < route.who {
                answer.refused(403, "forbidden");
            }
            // Signing out ends the session; the others still need theirs.
            if route.path == "/logout" {
                answer.expect(204);
            }
        }
    }
    server.stop().await;
}

/// Only owners make, change and unmake admins and owners.
#[tokio::test]
async fn admins_do_not_touch_admins_and_owners() {
    use serde_json::json;
    let (mut server, owner) = Server::start_set_up(Options::plain()).await;
    let admin = owner.invite("admin", &[]).await;
    let other = owner.invite("admin", &[]).await;
    for target in [&owner, &other] {
        let version = admin.api.get(&format!("/users/{}", target.id)).await.expect(200)["version"].clone();
        for change in [json!({"role": "member"}), json!({"disabled": true}), json!({"display_name": "X"})] {
            admin.api.patch(&format!("/users/{}", target.id), &version, change).await.refused(403, "forbidden");
        }
        let password = json!({"password": "kettle lamp ocean stair"});
        admin.api.post(&format!("/users/{}/password", target.id), password).await.refused(403, "forbidden");
        let session = format!("/users/{}/sessions/{}", target.id, target.session);
        admin.api.delete(&session).await.refused(403, "forbidden");
    }
    for role in ["admin", "owner"] {
        admin.api.post("/invites", json!({"role": role})).await.refused(403, "forbidden");
        let body = json!({"username": "new", "display_name": "N", "role": role, "password": "kettle lamp ocean stair"});
        admin.api.post("/users", body).await.refused(403, "forbidden");
    }
    let me = admin.api.get("/me").await.expect(200);
    let promote = json!({"role": "owner"});
    let path = format!("/users/{}", admin.id);
    admin.api.patch(&path, &me["user"]["version"], promote).await.refused(403, "forbidden");
    let version = owner.api.get("/me").await.expect(200)["user"]["version"].clone();
    for change in [json!({"role": "admin"}), json!({"disabled": true})] {
        owner.api.patch(&format!("/users/{}", owner.id), &version, change).await.refused(409, "last_owner");
    }
    other.api.get("/me").await.expect(200);
    owner.api.get("/me").await.expect(200);
    server.stop().await;
}
