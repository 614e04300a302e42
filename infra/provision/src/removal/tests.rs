//! Tests of taking away, against a small cloud.

use std::sync::Arc;

use super::*;
use crate::{
    Environment, apply::Progress, carry_out, environment::tests::environment, fake::Fake, look_to_remove, show,
};

const TWO: &str = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[businesses.bu2]\n";

fn quiet() -> Progress {
    Arc::new(|_| {})
}

async fn provision(environment: &Environment, fake: &Fake) {
    crate::run(environment, &fake.cloud, crate::plan::Options::default(), &quiet()).await.unwrap();
}

async fn remove(before: &Environment, after: Option<&Environment>, fake: &Fake, options: Options) -> Plan {
    let plan = look_to_remove(before, after, &fake.cloud, options, &quiet()).await.unwrap();
    carry_out(plan.clone(), &fake.cloud, &quiet()).await.unwrap();
    plan
}

#[tokio::test]
async fn a_removed_business_leaves_the_others_as_they_were() {
    let (one, two) = (environment(&TWO.replace("[businesses.bu2]\n", "")), environment(TWO));
    let fake = Fake::start().await;
    provision(&one, &fake).await;
    let before = fake.state();
    provision(&two, &fake).await;
    let everything = Options { data: true, identities: true };
    let plan = remove(&two, Some(&one), &fake, everything).await;
    assert!(plan.changes.iter().all(|change| change.business.as_deref() != Some("bu1")));
    let text = show::render(&plan, false);
    assert!(
        text.contains("- take away permissions on bucket desk-one-bucket\n    - projects/desk-one/roles"),
        "{text}"
    );
    // What is left is the shared bucket's lifecycle, which the next run of the smaller environment puts right.
    provision(&one, &fake).await;
    assert_eq!(fake.state(), before);
}

#[tokio::test]
async fn by_default_compute_goes_and_data_and_identities_stay() {
    let two = environment(TWO);
    let fake = Fake::start().await;
    provision(&two, &fake).await;
    let plan = remove(&two, None, &fake, Options::default()).await;
    assert!(show::summary(&plan).contains("7 to delete, 9 to take away, 14 to keep"), "{}", show::render(&plan, false));
    let left = fake.with(|world| world.resources.keys().cloned().collect::<Vec<_>>());
    let gone = ["/topics/", "/subscriptions/", "/clusters/"];
    assert!(left.iter().all(|path| gone.iter().all(|part| !path.contains(part))), "{left:?}");
    assert_eq!(left.len(), 14);
    let policy = crate::policy::grants(&fake.with(|world| world.policies["v1/projects/desk-one"].clone()));
    assert_eq!(policy.len(), 0, "nothing is granted on the project any more");
    let again = look_to_remove(&two, None, &fake.cloud, Options::default(), &quiet()).await.unwrap();
    assert_eq!(again.pending().count(), 0);
}

#[tokio::test]
async fn everything_goes_when_asked_but_nothing_of_others() {
    let two = environment(TWO);
    let fake = Fake::start().await;
    provision(&two, &fake).await;
    let topic = "v1/projects/desk-one/topics/desk-one-bu1-topic";
    fake.with(|world| world.resources.get_mut(topic).unwrap()["labels"]["managed-by"] = "other".into());
    let plan = remove(&two, None, &fake, Options { data: true, identities: true }).await;
    assert!(
        show::render(&plan, false)
            .contains("= keep topic desk-one-bu1-topic (bu1)\n      it is not ours: its labels are")
    );
    assert_eq!(fake.with(|world| world.resources.keys().cloned().collect::<Vec<_>>()), [topic]);
    assert_eq!(crate::policy::grants(&fake.with(|world| world.policies[topic].clone())).len(), 0);
}

#[tokio::test]
async fn a_role_that_another_environment_has_too_stays() {
    let two = environment(TWO);
    let fake = Fake::start().await;
    provision(&two, &fake).await;
    // Somebody else's environment in the same project, seen by an account of its own.
    let other = "v1/projects/desk-one/serviceAccounts/other@desk-one.iam.gserviceaccount.com";
    fake.with(|world| {
        let ours = world.resources.iter().find(|(path, _)| path.contains("/serviceAccounts/")).unwrap().1.clone();
        let mut theirs = ours.clone();
        theirs["name"] = other.trim_start_matches("v1/").into();
        theirs["description"] = "managed-by=deskgrid deskgrid-env=their-desk: nodes".into();
        world.resources.insert(other.to_owned(), theirs)
    });
    let plan = remove(&two, None, &fake, Options { data: true, identities: true }).await;
    let text = show::render(&plan, false);
    assert!(text.contains("= keep role deskgridObjectLister"), "{text}");
    assert!(text.contains("the environment their-desk of this project would lose it"), "{text}");
    let left = fake.with(|world| world.resources.keys().cloned().collect::<Vec<_>>());
    assert!(left.iter().all(|path| path.contains("/roles/") || path == other), "{left:?}");
    assert_eq!(left.len(), 3);
    let again = look_to_remove(&two, None, &fake.cloud, Options { data: true, identities: true }, &quiet()).await;
    assert_eq!(again.unwrap().pending().count(), 0);
}
