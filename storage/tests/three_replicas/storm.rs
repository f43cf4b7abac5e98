//! Everything goes wrong at once, for a while; nothing that was acknowledged is lost, nothing is applied twice.
//!
//! The leader, whoever it is, writes one record after another, each decided on what it has proposed before; brokers are
//! killed, lose their power, are cut off one way or both, forget the log below a checkpoint, and hand over the leadership. Which offsets were acknowledged is
//! kept outside. In the end the weather clears, and all replicas must agree, with every acknowledged record in its place.
//! ([`Mill`](super::cluster::Mill) faults when an offset is filled twice, or left out.)

use std::time::Duration;

use tidemill_core::ids::Term;
use tidemill_sim::chance::SimChance;
use tidemill_sim::for_seeds;
use tidemill_sim::net::Weather;

use super::cluster::{Cluster, brokers, record};
use super::one_story::{IntoBroker, formed};

const ALL: [u64; 3] = [1, 2, 3];
const ROUNDS: u64 = 40;

async fn a_storm(seed: u64) -> Vec<String> {
    let (mut cluster, _) = formed(seed).await;
    let lots = cluster.lots();
    let mut head = Head { leader: (0, Term(0)), end: 0 };
    let mut acknowledged = Vec::new();
    cluster.net.set_weather(Weather::rough());
    for _ in 0..ROUNDS {
        misfortune(&mut cluster, &lots).await;
        if let Some(leader) = a_leader(&cluster) {
            if head.leader != leader {
                head = Head { leader, end: cluster.broker(leader.0).end() };
            }
            acknowledged.extend(some_writes(&mut cluster, &mut head, &lots).await);
        } else {
            tokio::time::sleep(Duration::from_millis(lots.between(100, 3_000))).await;
        }
        cluster.check();
    }

    cluster.tell("The weather clears.");
    cluster.net.heal();
    cluster.net.set_weather(Weather::fair());
    for id in ALL {
        if !cluster.brokers.contains_key(&id) {
            cluster.start(id).await;
        }
    }
    cluster.leader_among(&ALL).await;
    cluster.agree(&ALL).await;
    // A leadership may be on its way to another still.
    loop {
        let leader = cluster.leader_among(&ALL).await;
        let end = cluster.broker(leader.0).end();
        if cluster.write(leader, record(end)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.agree(&ALL).await;
    let offsets = cluster.broker(1).offsets();
    assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>(), "no offset is missing or doubled");
    for offset in &acknowledged {
        assert!(offsets.contains(offset), "record {offset} was acknowledged, and is gone");
    }
    cluster.tell(format!("{} of {} records were acknowledged", acknowledged.len(), offsets.len()));
    assert!(!acknowledged.is_empty());
    cluster.transcript
}

/// What a leader decides on: the end of the partition, as of what it has proposed in its term.
struct Head {
    leader: (u64, Term),
    end: u64,
}

fn a_leader(cluster: &Cluster) -> Option<(u64, Term)> {
    let leading = cluster.brokers.iter().filter_map(|(id, broker)| Some((*id, broker.leads_in()?)));
    leading.max_by_key(|(_, term)| *term)
}

/// Proposes some records one behind the other, without waiting for any; returns those that were acknowledged soon.
async fn some_writes(cluster: &mut Cluster, head: &mut Head, lots: &SimChance) -> Vec<u64> {
    let mut proposed = Vec::new();
    for _ in 0..lots.between(1, 12) {
        let offset = head.end;
        match cluster.propose(head.leader, record(offset)).await {
            Ok(proposal) => proposed.push((offset, proposal)),
            Err(_) => break,
        }
        head.end += 1;
        if lots.happens(300) {
            tokio::time::sleep(Duration::from_millis(lots.between(1, 200))).await;
        }
    }
    let mut acknowledged = Vec::new();
    for (offset, proposal) in proposed {
        if let Ok(Ok(_)) =
            tokio::time::timeout(Duration::from_millis(lots.between(50, 3_000)), proposal).await
        {
            acknowledged.push(offset);
        }
    }
    acknowledged
}

async fn misfortune(cluster: &mut Cluster, lots: &SimChance) {
    let some = ALL[lots.between(0, 3) as usize];
    let other = ALL[lots.between(0, 3) as usize];
    let lives = cluster.brokers.contains_key(&some);
    match lots.between(0, 10) {
        0 if lives => cluster.kill(some),
        1 if lives => cluster.cut_power(some),
        2 if lives => cluster.stop(some).await,
        3 if lives => {
            // Refused when it does not lead, or the other is none.
            let _ = cluster.broker(some).group.transfer_leadership(other.into_broker()).await;
        }
        4 => cluster.net.cut(some.into_broker(), other.into_broker()),
        8 => cluster.net.part(&brokers(&[some])),
        5 if lives => {
            // Whoever is behind now needs a snapshot.
            let group = cluster.broker(some).group.clone();
            let _ = tokio::time::timeout(Duration::from_secs(1), group.purge()).await;
        }
        6 | 7 => cluster.net.heal(),
        _ if !lives => cluster.start(some).await,
        _ => {}
    }
}

#[test]
fn a_storm_is_the_same_every_time() {
    assert_eq!(tidemill_sim::run(a_storm(5)), tidemill_sim::run(a_storm(5)));
}

#[test]
fn a_storm_takes_nothing_that_was_acknowledged() {
    for_seeds(20, |seed| {
        let transcript = tidemill_sim::run(a_storm(seed));
        if std::env::var("TIDEMILL_SEED").is_ok() {
            eprintln!("{}", transcript.join("\n"));
        }
    });
}
