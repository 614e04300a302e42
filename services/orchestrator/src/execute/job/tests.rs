//! Jobs made from a template, and work read back from them.

use contract::pack::{Format, Pack};

use super::*;

pub(crate) fn business() -> Business {
    contract::testing::business("bu1")
}

pub(crate) fn work(first: Option<u32>) -> Work {
    let work = contract::testing::work("bu1", "s1", "a b/c.json");
    let pack = Pack { format: Format::Lines, items: 25, items_per_range: 10, rows_per_item: 1 };
    Work {
        identity: Identity { first, ..work.identity.clone() },
        client: Some("desk".into()),
        pack: first.map(|_| pack),
        common: vec!["market.json".into()],
        ..work
    }
}

pub(crate) fn template(business: &Business) -> Template {
    let text = json!({
        "metadata": {"labels": {"team": "rates"}},
        "spec": {
            "backoffLimit": 3,
            "ttlSecondsAfterFinished": 3600,
            "template": {"spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": 600,
                "initContainers": [{"name": "copy", "image": "i"}],
                "containers": [
                    {"name": "engine", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "DESKGRID_WORK", "value": "old"}]},
                    {"name": "sidecar", "image": "i"},
                ],
            }},
        },
    });
    Template::parse(&text.to_string(), business, "bu1").unwrap()
}

pub(crate) fn made(business: &Business, work: &Work) -> Job {
    let origin = Origin {
        message_id: "m1".into(),
        published: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        received: "2026-01-01T00:00:00.5Z".parse().unwrap(),
    };
    serde_json::from_value(template(business).job(work, &origin).unwrap()).unwrap()
}

#[test]
fn a_job_says_what_it_is_for() {
    let job = made(&business(), &work(None));
    let name = job.metadata.name.clone().unwrap();
    assert_eq!(name, work(None).identity.job_name());
    assert_eq!(job.metadata.namespace.as_deref(), Some("bu1"));
    assert_eq!(job.metadata.finalizers.as_deref(), Some(&[labels::FINALIZER.to_owned()][..]));
    let spec = job.spec.clone().unwrap();
    let pod_labels = spec.template.metadata.clone().unwrap().labels.unwrap();
    let job_labels = job.metadata.labels.clone().unwrap();
    for (key, value) in
        [("app", "engine"), ("business", "bu1"), ("session", "s1"), ("app.kubernetes.io/managed-by", "deskgrid")]
    {
        assert_eq!((job_labels[key].as_str(), pod_labels[key].as_str()), (value, value), "{key}");
    }
    assert!(names::is_label_value(&job_labels["job"]) && job_labels["job"] == names::label_value("a b/c.json"));
    assert_eq!(job_labels["team"], "rates");
    let pod = spec.template.spec.unwrap();
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let given: Vec<_> = container.env.iter().flatten().filter(|v| v.name == labels::ENV_WORK).collect();
        assert_eq!(given.len(), 1, "{}", container.name);
        // No name of it has a `$`, so nothing is escaped.
        assert_eq!(serde_json::from_str::<Work>(given[0].value.as_ref().unwrap()).unwrap(), work(None));
    }
    assert_eq!((spec.backoff_limit, spec.completions, spec.suspend), (Some(3), None, None));
    let (message, published, received) = read_origin(&job);
    assert_eq!(message.as_deref(), Some("m1"));
    assert!(published < received);
}

#[test]
fn a_range_is_a_plain_job_whose_pods_may_end_some_times() {
    let range = made(&business(), &work(Some(10)));
    assert_ne!(range.metadata.name, made(&business(), &work(None)).metadata.name);
    let spec = range.spec.unwrap();
    assert_eq!((spec.completions, spec.backoff_limit), (None, Some(12)));
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.active_deadline_seconds, Some(600 * 11));
    let names: Vec<&str> = pod.containers[0].env.iter().flatten().map(|variable| &*variable.name).collect();
    assert!(names.contains(&labels::ENV_POD), "{names:?}");
    let rest = made(&business(), &Work { only: Some(vec![11, 13]), ..work(Some(10)) }).spec.unwrap();
    assert_eq!(rest.template.spec.unwrap().active_deadline_seconds, Some(600 * 3));
}

#[test]
fn a_queue_suspends_jobs_until_kueue_admits_them() {
    let job = made(&Business { queue: Some("desk".into()), ..business() }, &work(None));
    assert_eq!(job.metadata.labels.unwrap()[labels::KUEUE_QUEUE], "desk");
    assert_eq!(job.spec.unwrap().suspend, Some(true));
}

#[test]
fn work_is_read_back_even_from_a_job_that_was_edited() {
    let mut job = made(&business(), &work(Some(10)));
    assert_eq!(read_work(&job).unwrap(), work(Some(10)));
    let other = Work { job: "other".into(), identity: Identity { generation: 8, ..work(None).identity }, ..work(None) };
    let annotations = job.metadata.annotations.as_mut().unwrap();
    annotations.insert(labels::ANNOTATION_WORK.into(), serde_json::to_string(&other).unwrap());
    assert_eq!(read_work(&job).unwrap(), work(Some(10)));
    job.metadata.annotations = None;
    assert_eq!(read_work(&job).unwrap(), work(Some(10)));
    job.metadata.name = Some("job-other".into());
    assert!(read_work(&job).is_err());
}

#[test]
fn the_bare_job_has_every_field_of_the_template() {
    let bare = template(&business()).bare(&business(), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(bare["metadata"]["name"], DRY_RUN);
    let job: Job = serde_json::from_value(bare).unwrap();
    assert_eq!(job.spec.unwrap().backoff_limit, Some(3));
}

#[test]
fn a_template_that_is_not_a_job_is_refused() {
    for (bad, word) in [
        ("", "JSON"),
        ("[]", "object"),
        (r#"{"kind":"Pod"}"#, "kind"),
        (r#"{"spec":{}}"#, "containers"),
        (r#"{"spec":{"template":{"spec":{"containers":[]}}}}"#, "containers"),
        (r#"{"metadata":3,"spec":{"template":{"spec":{"containers":[{}]}}}}"#, "metadata"),
    ] {
        let error = format!("{:#}", Template::parse(bad, &business(), "bu1").unwrap_err());
        assert!(error.contains(word), "{bad}: {error}");
    }
}

#[test]
fn the_work_survives_any_text_in_its_names() {
    let text = "a \"quoted\" \\ \u{1}Name\u{1} \u{7f}\n\u{2028} 日本 {}";
    let mut odd = Work { client: Some(text.into()), job: text.into(), ..work(None) };
    odd.identity.object = format!("bu1/input/s1/{text}");
    assert_eq!(read_work(&made(&business(), &odd)).unwrap(), odd);
}

#[test]
fn the_kubelet_expands_nothing_in_the_names_of_a_job() {
    let mut odd = Work { job: "US$$-a$(DESKGRID_CONFIG)$.json".into(), ..work(None) };
    odd.identity.object = format!("bu1/input/s1/{}", odd.job);
    let mut job = made(&business(), &odd);
    for container in &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers {
        let variable = container.env.iter().flatten().find(|variable| variable.name == labels::ENV_WORK).unwrap();
        // `$$` is `$` to the kubelet, and a text in which every `$` is doubled has no reference.
        let text = serde_json::to_string(&odd).unwrap().replace('$', "$$");
        assert_eq!(variable.value.as_ref().unwrap(), &text);
    }
    job.metadata.annotations = None;
    assert_eq!(read_work(&job).unwrap(), odd, "it is read back");
}
