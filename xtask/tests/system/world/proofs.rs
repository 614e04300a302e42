//! What a test looks for in the world when all is done.

use std::collections::{BTreeMap, BTreeSet};

use cloud::storage::Object;
use contract::{Outcome, message::Work, outcome::State};

use super::{World, eventually};

impl World {
    /// Live objects of a business under one of its parts.
    pub(crate) async fn objects(&self, business: &str, part: &str) -> Vec<Object> {
        let bucket = &self.business(business).bucket;
        self.store.list(bucket, &format!("{business}/{part}/")).await.unwrap()
    }

    /// Every outcome of a business.
    pub(crate) async fn outcomes(&self, business: &str) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for object in self.objects(business, "outcome").await {
            let bucket = &self.business(business).bucket;
            let (_, body) = self.store.read(bucket, &object.name, None).await.unwrap().unwrap();
            outcomes.push(serde_json::from_slice(&body).unwrap());
        }
        outcomes
    }

    /// Waits until there are as many outcomes.
    pub(crate) async fn settled(&self, business: &str, count: usize) -> Vec<Outcome> {
        eventually(&format!("{count} outcomes of {business}"), async || {
            self.objects(business, "outcome").await.len() >= count
        })
        .await;
        self.outcomes(business).await
    }

    /// The equation: every identity has one outcome, what succeeded has its result and no input, what did not has its
    /// input; nothing waits and nothing is half done.
    pub(crate) async fn assert_equation(&self, business: &str, expected: &BTreeMap<String, State>) {
        let outcomes = self.settled(business, expected.len()).await;
        let name = |outcome: &Outcome| match &outcome.work {
            Some(work) => work.identity.object.clone(),
            None => format!("refused/{}", outcome.message_id.clone().unwrap_or_default()),
        };
        let found: BTreeMap<String, State> = outcomes.iter().map(|outcome| (name(outcome), outcome.state)).collect();
        assert_eq!(&found, expected, "the outcomes are not what they should be: {outcomes:#?}");
        assert_eq!(outcomes.len(), found.len(), "an identity has several outcomes");

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

        // Before a batch's Job is let go, what belonged to it is deleted.
        self.assert_nothing_waits(business).await;
        let results: BTreeSet<String> =
            self.objects(business, "output").await.into_iter().map(|result| result.name).collect();
        let wanted: BTreeSet<String> = outcomes
            .iter()
            .filter(|outcome| outcome.state == State::Succeeded)
            .flat_map(|outcome| outcome.work.iter().flat_map(Work::outputs))
            .collect();
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
