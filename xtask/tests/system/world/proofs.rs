//! What a test looks for in the world when all is done.

use std::collections::{BTreeMap, BTreeSet};

use cloud::storage::Object;
use contract::{
    Outcome, labels, object,
    outcome::State,
    pack::{Counts, ItemResult},
};

use super::{World, eventually};

impl World {
    /// Live objects of a business under one of its parts.
    pub(crate) async fn objects(&self, business: &str, part: &str) -> Vec<Object> {
        let bucket = &self.business(business).bucket;
        self.store.list(bucket, &format!("{business}/{part}/")).await.unwrap()
    }

    /// Objects of the outcomes of a business.
    async fn outcome_objects(&self, business: &str) -> Vec<Object> {
        let mut objects = self.objects(business, "outcome").await;
        objects.retain(|found| object::parse_layout(business, &found.name).is_none());
        objects
    }

    /// The inputs that have ended, and the refused messages: a pack when all its items have.
    pub(crate) async fn ended(&self, business: &str) -> BTreeSet<String> {
        let (mut ended, mut items, mut layouts) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        for found in self.objects(business, "outcome").await {
            let text = |key: &str| found.metadata.get(key).cloned();
            if let Some((session, job, _)) = object::parse_layout(business, &found.name) {
                let count: u32 = text("deskgrid-items").unwrap().parse().unwrap();
                layouts.insert(object::input(business, session, job), count);
            } else if let Some(id) = object::parse_refused(business, &found.name) {
                ended.insert(format!("refused/{id}"));
            } else if let Some(name) = object::parse_outcome(business, &found.name) {
                let input = object::input(business, &name.session, &name.job);
                match name.first {
                    None => drop(ended.insert(input)),
                    Some(_) => {
                        let counts = text(labels::METADATA_ITEMS).and_then(|text| Counts::decode(&text)).unwrap();
                        *items.entry(input).or_insert(0) += counts.total();
                    }
                }
            }
        }
        ended.extend(
            layouts.into_iter().filter(|(input, count)| items.get(input) == Some(count)).map(|(input, _)| input),
        );
        ended
    }

    /// Every outcome of a business.
    pub(crate) async fn outcomes(&self, business: &str) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for object in self.outcome_objects(business).await {
            let bucket = &self.business(business).bucket;
            let (_, body) = self.store.read(bucket, &object.name, None).await.unwrap().unwrap();
            outcomes.push(serde_json::from_slice(&body).unwrap());
        }
        outcomes
    }

    /// Waits until there are as many outcomes.
    pub(crate) async fn settled(&self, business: &str, count: usize) -> Vec<Outcome> {
        eventually(&format!("{count} outcomes of {business}"), async || {
            self.outcome_objects(business).await.len() >= count
        })
        .await;
        self.outcomes(business).await
    }

    /// The equation: every identity has one outcome, and a pack one for each range; what succeeded has its result and
    /// no input, what did not has its input; nothing waits and nothing is half done.
    pub(crate) async fn assert_equation(&self, business: &str, expected: &BTreeMap<String, State>) {
        eventually(&format!("{} inputs of {business} ended", expected.len()), async || {
            self.ended(business).await.len() >= expected.len()
        })
        .await;
        let outcomes = self.outcomes(business).await;
        let name = |outcome: &Outcome| match &outcome.work {
            Some(work) => work.identity.object.clone(),
            None => format!("refused/{}", outcome.message_id.clone().unwrap_or_default()),
        };
        let mut found: BTreeMap<String, State> = BTreeMap::new();
        let mut identities = BTreeSet::new();
        for outcome in &outcomes {
            let first = outcome.identity().and_then(|identity| identity.first);
            assert!(identities.insert((name(outcome), first)), "an identity has several outcomes");
            // Of a pack, the worst counts.
            let state = found.entry(name(outcome)).or_insert(outcome.state);
            *state = outcome.state.max(*state);
        }
        assert_eq!(&found, expected, "the outcomes are not what they should be: {outcomes:#?}");

        // Deleting the input and letting the Job go come after the outcome.
        let succeeded: BTreeSet<&str> =
            found.iter().filter(|(_, state)| **state == State::Succeeded).map(|(name, _)| name.as_str()).collect();
        eventually("the inputs of what succeeded are gone", async || {
            !self.objects(business, "input").await.iter().any(|input| succeeded.contains(input.name.as_str()))
        })
        .await;
        let inputs: BTreeSet<String> =
            self.objects(business, "input").await.into_iter().map(|input| input.name).collect();
        let kept: BTreeSet<String> = found
            .iter()
            .filter(|(name, state)| **state != State::Succeeded && !name.starts_with("refused/"))
            .map(|(name, _)| name.clone())
            .collect();
        assert_eq!(inputs, kept, "exactly the inputs of what did not succeed are kept");

        self.assert_nothing_waits(business).await;
        let results: BTreeSet<String> =
            self.objects(business, "output").await.into_iter().map(|result| result.name).collect();
        let (ranges, singles): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .filter_map(|outcome| Some((outcome, outcome.work.as_ref()?)))
            .partition(|o| o.1.pack.is_some());
        let is_of_range =
            |name: &String| ranges.iter().any(|(_, work)| name.starts_with(&format!("{}/", work.output())));
        let results: BTreeSet<String> = results.into_iter().filter(|name| !is_of_range(name)).collect();
        let succeeded = singles.iter().filter(|(outcome, _)| outcome.state == State::Succeeded);
        let is_object = |result: &Option<ItemResult>| matches!(result, None | Some(ItemResult::Object { .. }));
        let wanted: BTreeSet<String> =
            succeeded.filter(|(outcome, _)| is_object(&outcome.result)).map(|(_, work)| work.output()).collect();
        for (outcome, work) in ranges {
            let items: Vec<u32> = outcome.items.iter().map(|item| item.index).collect();
            assert!(work.range().is_some_and(|range| range.eq(items)), "every item of a range is in its outcome once");
        }
        assert_eq!(results, wanted, "exactly what succeeded has its results");
    }

    /// No message is left in the subscription, and no Job holds our finalizer.
    async fn assert_nothing_waits(&self, business: &str) {
        let jobs: kube::Api<k8s_openapi::api::batch::v1::Job> =
            kube::Api::namespaced(self.kube.clone(), &self.business(business).namespace);
        eventually("every Job is let go", async || {
            let list = jobs.list(&Default::default()).await.unwrap();
            list.items
                .iter()
                .all(|job| job.metadata.finalizers.iter().flatten().all(|name| name != contract::labels::FINALIZER))
        })
        .await;
    }
}
