//! The shared support itself: a server starts, is set up, survives a kill and stops in order.

use serde_json::json;

use crate::support::{Options, Server, Ws};

#[tokio::test]
async fn a_server_starts_is_killed_starts_again_and_stops() {
    let (mut server, owner) = Server::start_set_up(Options::default()).await;
    let channel = owner.channel("private", &[]).await;
    let sent = owner.say(&channel, "before the kill").await;
    server.kill9();
    assert!(!server.runs());
    server.restart().await;
    let owner = server.api().with_token(owner.token());
    let kept = owner.get(&format!("/channels/{channel}/messages/1")).await.expect(200);
    assert_eq!(kept, sent);
    let mut ws = Ws::connect(&owner).await;
    server.pause();
    let id = ws.request(json!({"op": "ping"})).await;
    server.resume();
    assert!(ws.answer(&id).await["ok"]["pos"].is_string());
    server.stop().await;
    assert_eq!(ws.closed().await, Some(4008));
}
