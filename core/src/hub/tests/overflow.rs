//! What a slow reader gets under each policy, to the letter.

use std::task::{Context, Waker};

use super::{fill, hub, now, publish, read, vec_of};
use crate::{
    Stats,
    hub::{Ended, Hub, Overflow, Publish, Subscription},
};

fn subscribe(hub: &Hub) -> Subscription {
    now(hub.subscribe("t")).unwrap()
}

fn lagged(missed: u64) -> String {
    format!(r#"{{"reason":"lagged","missed":{missed}}}"#)
}

/// A gap, then numbers.
fn behind_gap(missed: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut said = vec![lagged(missed)];
    said.extend(vec_of(numbers));
    said
}

fn counts(stats: &Stats) -> (u64, u64) {
    let stats = stats.snapshot();
    (stats.lagged_total, stats.gaps_total)
}

/// Publishes keys as messages of themselves, each with its number behind it.
fn publish_keys(hub: &Hub, keys: &str, from: u64) {
    for (number, key) in (from..).zip(keys.chars()) {
        let message = Publish::from(format!("{key}{number}"));
        let message = match key {
            '-' => message,
            key => message.key(key.to_string()),
        };
        now(hub.publish("t", message)).unwrap();
    }
}

#[test]
fn drop_oldest_goes_on_with_the_newest_of_the_queue() {
    let (hub, stats) = hub(100, 3, Overflow::DropOldest);
    let mut subscription = subscribe(&hub);
    fill(&hub, "t", 1..=3);
    assert_eq!(read(&mut subscription), (vec_of(1..=3), None));
    fill(&hub, "t", 4..=10);
    assert_eq!(read(&mut subscription), (behind_gap(4, 8..=10), None));
    assert_eq!(counts(&stats), (4, 1));
    fill(&hub, "t", 11..=13);
    assert_eq!(read(&mut subscription), (vec_of(11..=13), None));
    fill(&hub, "t", 14..=17);
    assert_eq!(read(&mut subscription), (behind_gap(1, 15..=17), None));
    assert_eq!(counts(&stats), (5, 2));
}

#[test]
fn drop_newest_goes_on_from_the_head_behind_what_waited() {
    let (hub, stats) = hub(100, 3, Overflow::DropNewest);
    let mut subscription = subscribe(&hub);
    fill(&hub, "t", 1..=10);
    let mut one_at_a_time = Vec::new();
    for number in 11..=13 {
        one_at_a_time.push(next(&mut subscription));
        // No room for it, however much was taken: the gap comes first.
        fill(&hub, "t", [number]);
    }
    assert_eq!(one_at_a_time, vec_of(1..=3));
    assert_eq!(read(&mut subscription), (vec![lagged(10)], None));
    assert_eq!(counts(&stats), (10, 1));
    fill(&hub, "t", 14..=16);
    assert_eq!(read(&mut subscription), (vec_of(14..=16), None));
    assert_eq!(counts(&stats), (10, 1));
}

#[test]
fn drop_newest_tells_one_gap_where_nothing_that_waited_is_kept() {
    let (hub, stats) = hub(5, 3, Overflow::DropNewest);
    let mut subscription = subscribe(&hub);
    fill(&hub, "t", 1..=8);
    assert_eq!(read(&mut subscription), (vec![lagged(8)], None));
    assert_eq!(counts(&stats), (8, 1));
    fill(&hub, "t", 9..=9);
    assert_eq!(read(&mut subscription), (vec_of([9]), None));
    // Of 10, 11 and 12 only the last is kept.
    fill(&hub, "t", 10..=16);
    let mut said = behind_gap(2, [12]);
    said.push(lagged(4));
    assert_eq!(read(&mut subscription), (said, None));
    assert_eq!(counts(&stats), (14, 3));
}

#[test]
fn conflate_gives_the_newest_of_each_key_in_order() {
    let (hub, stats) = hub(100, 4, Overflow::Conflate);
    let mut subscription = subscribe(&hub);
    publish_keys(&hub, "aaaa", 1);
    let all = ["a1", "a2", "a3", "a4"].map(str::to_owned).to_vec();
    assert_eq!(
        read(&mut subscription),
        (all, None),
        "no lag, no conflation"
    );
    publish_keys(&hub, "abcab-b", 5);
    let newest = ["c7", "a8", "-10", "b11"].map(str::to_owned).to_vec();
    assert_eq!(read(&mut subscription), (newest, None));
    assert_eq!(counts(&stats), (3, 0), "5, 6 and 9: replaced, and no gap");
    publish_keys(&hub, "aa", 12);
    let all = ["a12", "a13"].map(str::to_owned).to_vec();
    assert_eq!(read(&mut subscription), (all, None));
}

#[test]
fn what_was_conflated_stays_so_when_the_lag_is_small_again() {
    let (hub, stats) = hub(100, 4, Overflow::Conflate);
    let mut subscription = subscribe(&hub);
    publish_keys(&hub, "acbcbcb", 1);
    assert_eq!(next(&mut subscription), "a1");
    assert_eq!(next(&mut subscription), "c6");
    // One more of a key that is still to come: it waits as ever.
    publish_keys(&hub, "b", 8);
    let rest = ["b7", "b8"].map(str::to_owned).to_vec();
    assert_eq!(read(&mut subscription), (rest, None));
    assert_eq!(counts(&stats), (4, 0));
}

#[test]
fn conflate_drops_the_oldest_where_more_keys_are_left_than_the_queue() {
    let (hub, stats) = hub(100, 2, Overflow::Conflate);
    let mut subscription = subscribe(&hub);
    publish_keys(&hub, "abcdad-", 1);
    let said = vec![lagged(3), "d6".to_owned(), "-7".to_owned()];
    // b, c and a have nothing newer; a1 and d4 have.
    assert_eq!(read(&mut subscription), (said, None));
    assert_eq!(counts(&stats), (5, 1));
}

#[test]
fn conflate_remembers_what_was_replaced_past_the_history() {
    let (hub, stats) = hub(4, 3, Overflow::Conflate);
    let mut subscription = subscribe(&hub);
    for round in 0..500 {
        publish_keys(&hub, "ab", round * 2 + 1);
    }
    let newest = ["a999", "b1000"].map(str::to_owned).to_vec();
    assert_eq!(
        read(&mut subscription),
        (newest, None),
        "nothing is missing"
    );
    assert_eq!(counts(&stats), (998, 0));
    // A key that has nothing newer is.
    publish_keys(&hub, "zababababab", 1001);
    let said = vec![lagged(1), "a1010".to_owned(), "b1011".to_owned()];
    assert_eq!(read(&mut subscription), (said, None));
    assert_eq!(counts(&stats), (998 + 9, 1));
}

#[test]
fn a_subscription_may_have_a_policy_of_its_own() {
    let (hub, _) = hub(100, 2, Overflow::Disconnect);
    let with = |overflow| now(hub.subscribe("t").overflow(overflow)).unwrap();
    let mut subscriptions = [
        subscribe(&hub),
        with(Overflow::Block),
        with(Overflow::DropOldest),
        with(Overflow::DropNewest),
        with(Overflow::Conflate),
    ];
    publish_keys(&hub, "aaab", 1);
    let strings = |said: &[&str]| said.iter().map(ToString::to_string).collect::<Vec<_>>();
    let gap = lagged(2);
    let expected = [
        (vec![], Some(Ended::Overflow)),
        (strings(&["a1", "a2", "a3", "b4"]), None),
        (strings(&[&gap, "a3", "b4"]), None),
        (strings(&["a1", "a2", &gap]), None),
        (strings(&["a3", "b4"]), None),
    ];
    assert_eq!(subscriptions.each_mut().map(read), expected);
}

#[test]
fn who_resumes_far_behind_is_not_late_under_any_policy() {
    for overflow in [
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Conflate,
    ] {
        let (hub, stats) = hub(1000, 3, overflow);
        let ids = fill(&hub, "t", 1..=900);
        let mut resumed = now(hub.subscribe("t").after(ids[0])).unwrap();
        fill(&hub, "t", 901..=903);
        assert_eq!(read(&mut resumed), (vec_of(2..=903), None), "{overflow:?}");
        assert_eq!(counts(&stats), (0, 0));
    }
}

#[test]
fn a_reader_who_leaves_while_it_lags_has_lost_what_the_policy_took() {
    for (overflow, lost) in [
        (Overflow::Block, 0),
        (Overflow::Disconnect, 6),
        (Overflow::DropOldest, 4),
        (Overflow::DropNewest, 4),
        (Overflow::Conflate, 5),
    ] {
        let (hub, stats) = hub(100, 2, overflow);
        let late = subscribe(&hub);
        publish_keys(&hub, "aaaaaa", 1);
        drop(late);
        assert_eq!(counts(&stats), (lost, 0), "{overflow:?}");
        let in_time = subscribe(&hub);
        publish_keys(&hub, "aa", 7);
        drop(in_time);
        assert_eq!(counts(&stats), (lost, 0), "{overflow:?}");
    }
}

#[test]
fn who_cannot_take_holds_nothing_and_is_woken_for_nothing() {
    for overflow in [
        Overflow::Block,
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Conflate,
    ] {
        let (hub, _) = hub(4, 2, overflow);
        let mut stalled = subscribe(&hub);
        let payload = "x".repeat(1000);
        for _ in 0..2 {
            publish(&hub, "t", &payload);
        }
        assert_eq!(next(&mut stalled), payload);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(stalled.poll_overflow(cx).is_pending());
        let publish_many = || {
            for _ in 0..100 {
                publish(&hub, "t", &payload);
            }
        };
        let held = allocation_counter::measure(publish_many).bytes_current;
        assert!(held < 5 * 1200, "{overflow:?}: {held} bytes");
        assert!(stalled.poll_overflow(cx).is_pending());
    }
}

#[test]
fn what_conflation_needs_is_given_back_with_its_last_reader() {
    let (hub, _) = hub(1000, 1, Overflow::Block);
    publish_keys(&hub, &"ab".repeat(500), 1);
    let readers = || {
        let conflating = || now(hub.subscribe("t").overflow(Overflow::Conflate)).unwrap();
        drop([conflating(), conflating()]);
        publish_keys(&hub, "ab", 1001);
    };
    // What is published in place of what goes is as large.
    let held = allocation_counter::measure(readers).bytes_current;
    assert!(held.abs() < 1000, "{held} bytes");
}

/// The text of the next event, which must be there.
fn next(subscription: &mut Subscription) -> String {
    match super::poll(subscription) {
        std::task::Poll::Ready(Some(crate::hub::Delivery::Event(event))) => {
            event.message().as_text().unwrap().to_owned()
        }
        other => panic!("no event: {other:?}"),
    }
}
