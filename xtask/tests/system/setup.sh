#!/bin/sh
# The set-up of one business, as a person would type it with Google's own tools and kubectl.
# Needs PROJECT and LOCATION; the key passes through the current folder and does not stay there.
set -eu

CLUSTER="$PROJECT-cluster"
BUCKET="gs://$PROJECT-bucket"
TOPIC="$PROJECT-bu1-topic"
SUBSCRIPTION="$PROJECT-bu1-subscription"
ACCOUNT="bu1-orchestrator@$PROJECT.iam.gserviceaccount.com"

gcloud services enable \
  container.googleapis.com pubsub.googleapis.com storage.googleapis.com iam.googleapis.com \
  artifactregistry.googleapis.com cloudbuild.googleapis.com

gcloud container clusters create "$CLUSTER" \
  --location="$LOCATION" --num-nodes=1 --machine-type=e2-standard-2 \
  --workload-pool="$PROJECT.svc.id.goog" --enable-dataplane-v2 --enable-ip-alias --enable-dns-access \
  --labels=owner=desk
gcloud container clusters get-credentials "$CLUSTER" --location="$LOCATION"
gcloud artifacts repositories create "$PROJECT-images" --location="$LOCATION" --repository-format=docker

gsutil mb -b on -l "$LOCATION" --pap enforced "$BUCKET"
gcloud pubsub topics create "$TOPIC"
gcloud pubsub subscriptions create "$SUBSCRIPTION" \
  --topic="$TOPIC" --ack-deadline=60 --expiration-period=never --message-retention-duration=7d

gcloud iam service-accounts create bu1-orchestrator --display-name="Orchestrator of bu1"
gcloud pubsub subscriptions add-iam-policy-binding "$SUBSCRIPTION" \
  --member="serviceAccount:$ACCOUNT" --role=roles/pubsub.subscriber
gcloud pubsub topics add-iam-policy-binding "$TOPIC" \
  --member="serviceAccount:$ACCOUNT" --role=roles/pubsub.publisher
gcloud storage buckets add-iam-policy-binding "$BUCKET" \
  --member="serviceAccount:$ACCOUNT" --role=roles/storage.objectUser \
  --condition="title=bu1,expression=resource.name.startsWith('projects/_/buckets/$PROJECT-bucket/objects/bu1/')"
gcloud artifacts repositories add-iam-policy-binding "$PROJECT-images" --location="$LOCATION" \
  --member="serviceAccount:$ACCOUNT" --role=roles/artifactregistry.reader
gcloud projects add-iam-policy-binding "$PROJECT" \
  --member="serviceAccount:$ACCOUNT" --role=roles/logging.logWriter --condition=None
gcloud iam service-accounts add-iam-policy-binding "$ACCOUNT" \
  --member="serviceAccount:$PROJECT.svc.id.goog[bu1/orchestrator]" --role=roles/iam.workloadIdentityUser

kubectl create namespace bu1
kubectl --namespace=bu1 create serviceaccount orchestrator
kubectl --namespace=bu1 annotate serviceaccount orchestrator "iam.gke.io/gcp-service-account=$ACCOUNT"
gcloud iam service-accounts keys create key.json --iam-account="$ACCOUNT"
kubectl --namespace=bu1 create secret generic orchestrator-key --from-file=key.json
rm key.json
