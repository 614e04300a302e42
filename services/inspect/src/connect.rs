//! The way to a cluster: as a kubeconfig says, or with the Google token of everything else.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use anyhow::Context as _;
use cloud::proxy::proxy_for;
use contract::config::Cluster;
use futures::future::BoxFuture;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, Request, header::AUTHORIZATION};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tower::{BoxError, Layer, Service, ServiceExt as _, buffer::Buffer};

/// Requests that may wait for a token.
const WAITING_LIMIT: usize = 1024;

/// The configuration of a context of a kubeconfig, by default its current one.
///
/// # Errors
/// When there is no such context, or the kubeconfig or a proxy cannot be used.
pub async fn of_kubeconfig(
    kubeconfig: Kubeconfig,
    context: Option<&str>,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<Config> {
    let proxy = own_proxy(&kubeconfig, context);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.context("read the kubeconfig")?;
    // The library compares `NO_PROXY` with the proxy instead of the server.
    config.proxy_url = proxy_for(&config.cluster_url, proxy.as_deref(), variables)?;
    Ok(config)
}

/// The configuration of a cluster on Google Cloud, without a login.
///
/// # Errors
/// When its address, its authority or a proxy cannot be used.
pub async fn of_cluster(cluster: &Cluster, variables: &BTreeMap<String, String>) -> anyhow::Result<Config> {
    let mut server = json!({"server": cluster.server});
    if let Some(authority) = &cluster.authority {
        server["certificate-authority-data"] = json!(authority);
    }
    let kubeconfig = json!({
        "current-context": "google",
        "clusters": [{"name": "google", "cluster": server}],
        "contexts": [{"name": "google", "context": {"cluster": "google"}}],
    });
    of_kubeconfig(serde_json::from_value(kubeconfig)?, None, variables).await
}

/// A client that sends a Google access token with each request, which GKE accepts from every principal with
/// `container.*` permissions or a role in the cluster
/// (cloud.google.com/kubernetes-engine/docs/how-to/api-server-authentication). The credentials renew it.
///
/// # Errors
/// When the client cannot be built.
pub fn with_google_token(config: Config, credentials: Credentials) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(config).context("set up the Kubernetes client")?;
    Ok(builder.with_layer(&TokenLayer(credentials)).build())
}

struct TokenLayer(Credentials);

impl<S> Layer<S> for TokenLayer
where
    S: Service<Request<Body>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    type Service = WithToken<S::Future>;

    fn layer(&self, inner: S) -> Self::Service {
        WithToken { credentials: self.0.clone(), inner: Buffer::new(inner, WAITING_LIMIT) }
    }
}

struct WithToken<F> {
    credentials: Credentials,
    inner: Buffer<Request<Body>, F>,
}

impl<F, R> Service<Request<Body>> for WithToken<F>
where
    F: Future<Output = Result<R, BoxError>> + Send + 'static,
    R: 'static,
{
    type Response = R;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<R, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (credentials, inner) = (self.credentials.clone(), self.inner.clone());
        Box::pin(async move {
            if let CacheableResource::New { data, .. } = credentials.headers(Extensions::new()).await?
                && let Some(token) = data.get(AUTHORIZATION)
            {
                request.headers_mut().insert(AUTHORIZATION, token.clone());
            }
            inner.oneshot(request).await
        })
    }
}

/// The `proxy-url` of the cluster of a context.
fn own_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let name = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|known| known.name == name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|known| known.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_proxy_of_the_cluster_counts_before_that_of_the_environment() {
        let kubeconfig = json!({
            "contexts": [
                {"name": "a", "context": {"cluster": "a"}}, {"name": "b", "context": {"cluster": "b"}},
            ],
            "clusters": [
                {"name": "a", "cluster": {"server": "https://10.0.0.1", "proxy-url": "http://own:1"}},
                {"name": "b", "cluster": {"server": "https://10.0.0.1"}},
            ],
        });
        let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
        let variables = BTreeMap::from([("ALL_PROXY".to_owned(), "proxy:3128".to_owned())]);
        let check = async |context: &str, expected: &str| {
            let config = of_kubeconfig(kubeconfig.clone(), Some(context), &variables).await.unwrap();
            assert_eq!(config.proxy_url.unwrap().to_string(), expected);
        };
        check("a", "http://own:1/").await;
        check("b", "http://proxy:3128/").await;
    }
}
