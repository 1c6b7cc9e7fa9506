//! Services of a cloud.

use serde_json::{Map, Value, json};

use super::support::{begin, broke, clean, effects};
use crate::adapters::sim::Rule;
use crate::ports::World;
use crate::ports::cloud::Account;
use crate::ports::services::{Place, ServiceChange};

fn definition(image: &str) -> Map<String, Value> {
    let value = json!({
        "family": "shop",
        "containerDefinitions": [{"name": "shop", "image": image}],
    });
    value.as_object().cloned().expect("an object")
}

async fn register(world: &World, image: &str) -> String {
    let account = Account::default();
    let made = world.services.register(&account, &definition(image)).await;
    made.expect("it is registered").arn
}

#[tokio::test(start_paused = true)]
async fn a_service_moves_to_what_was_registered() {
    let (sim, world) = begin();
    let (first, second) = (register(&world, "a").await, register(&world, "b").await);
    assert_ne!(first, second);
    let place = Place {
        cluster: "main".to_owned(),
        service: "shop".to_owned(),
    };
    let change = ServiceChange {
        task_definition: Some(second.clone()),
        ..ServiceChange::default()
    };
    let account = Account::default();
    let moved = world.services.update(&account, &place, &change).await;
    assert_eq!(moved.expect("it moves").task_definition, second);
    assert_eq!(
        effects(&sim),
        ["services.register", "services.register", "services.update"]
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn the_same_is_not_registered_twice_in_a_row() {
    let (sim, world) = begin();
    register(&world, "a").await;
    register(&world, "b").await;
    register(&world, "a").await;
    clean(&sim);
    register(&world, "a").await;
    broke(&sim, Rule::SameRevision);
}
