use super::*;

const WINDOW: u32 = 16;

fn connect(dispatcher: &mut Dispatcher, id: &EngineId, now: Duration) -> Vec<Action> {
    let mut actions = dispatcher.connected(id, Hello { pod: id.to_string(), slots: 2, ..Hello::default() }, now);
    actions.extend(dispatcher.set_window(id, WINDOW, now));
    actions
}

fn add(dispatcher: &mut Dispatcher, name: &str, items: u32, now: Duration) -> Vec<Action> {
    let request = Request {
        range: name.into(),
        session: "s".into(),
        priority: false,
        work: Bytes::new(),
        input: None,
        items: (0..items).collect(),
    };
    dispatcher.add(request, now)
}

/// Number of items that were sent to an engine.
fn sent(actions: &[Action], id: &EngineId) -> usize {
    let count = |action: &Action| match action {
        Action::Send(to, Frame::Tasks(tasks)) if to == id => tasks.index.len(),
        _ => 0,
    };
    actions.iter().map(count).sum()
}

#[test]
fn an_item_that_was_recalled_goes_to_an_engine_that_can_begin_it() {
    let (busy, free): (EngineId, EngineId) = ("busy".into(), "free".into());
    let mut dispatcher = Dispatcher::new(Duration::ZERO);
    let now = REPORT_MAX;
    connect(&mut dispatcher, &busy, now);
    let ranges: Vec<String> = (0..7).map(|number| format!("range-{number}")).collect();
    for range in &ranges {
        assert_eq!(sent(&add(&mut dispatcher, range, 1, now), &busy), 1);
    }
    connect(&mut dispatcher, &free, now);
    // The first two are computed for long.
    let returned = |range: &String| Items { range: range.clone(), index: vec![0] };
    for range in &ranges[2..4] {
        assert_eq!(sent(&dispatcher.returned(&busy, &returned(range), now), &free), 1, "{range}");
    }
    // All engines compute: the one with fewer items gets more.
    let actions = add(&mut dispatcher, "more", 10, now);
    assert_eq!((sent(&actions, &busy), sent(&actions, &free)), (5, 5));
}

#[test]
fn an_engine_with_a_free_slot_gets_what_waits_with_another() {
    let (busy, free): (EngineId, EngineId) = ("busy".into(), "free".into());
    let mut dispatcher = Dispatcher::new(Duration::ZERO);
    let now = REPORT_MAX;
    connect(&mut dispatcher, &busy, now);
    add(&mut dispatcher, "range", 6, now);
    connect(&mut dispatcher, &free, now);
    assert_eq!(sent(&add(&mut dispatcher, "long", 1, now), &free), 1, "it can begin it at once");
    let actions = dispatcher.tick(0, Duration::MAX, now + RECALL_AFTER);
    let recalled = |action: &Action| matches!(action, Action::Send(to, Frame::Recall(_)) if *to == busy);
    assert!(actions.iter().any(recalled), "{actions:?}");
}

#[test]
fn an_engine_that_was_evicted_makes_its_items_suspects_and_one_that_was_preempted_does_not() {
    let engine: EngineId = "engine".into();
    for (is_preempted, suspects) in [(false, 2), (true, 0)] {
        let mut dispatcher = Dispatcher::new(Duration::ZERO);
        let now = REPORT_MAX;
        connect(&mut dispatcher, &engine, now);
        add(&mut dispatcher, "range", 2, now);
        // The kubelet asks an engine to stop before it kills it, whatever the reason.
        dispatcher.leaving(&engine);
        dispatcher.disconnected(&engine, now);
        assert_eq!(dispatcher.waiting(), 0, "nobody knows yet why the engine ended");
        dispatcher.pod_ended(&engine, is_preempted, now);
        assert_eq!((dispatcher.waiting(), dispatcher.suspects), (2, suspects));
    }
}
