//! IAM v1: service accounts, their keys and their policies.

use axum::response::Response;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Server, SetPolicy, TestPermissions, no_route, permissions_json, policy_json, requested_version};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
        page,
    },
    identity::{
        accounts::{Account, Key, check_texts},
        policy::Stale,
        principal::Principal,
    },
};

/// Most accounts on a page.
const PAGE_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Create {
    account_id: String,
    service_account: Texts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Patch {
    service_account: Texts,
    update_mask: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Texts {
    display_name: String,
    description: String,
}

impl Server {
    /// `path` begins at the project.
    pub(super) async fn accounts(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        let project = path.first().copied().unwrap_or_default();
        if project != "-" && !self.identity.is_project(project) {
            return Err(Error::forbidden(format!(
                "Permission 'iam.serviceAccounts.list' denied on resource '//iam.googleapis.com/projects/{project}' (or it may not exist)."
            )));
        }
        match (&call.method, path, call.verb.as_deref()) {
            (&Method::POST, [_, "serviceAccounts"], None) => self.create_account(call, caller),
            (&Method::GET, [_, "serviceAccounts"], None) => self.list_accounts(call, caller),
            (_, [_, "serviceAccounts", name], verb) => self.account(call, caller, name, verb),
            (_, [_, "serviceAccounts", name, "keys", rest @ ..], verb) => {
                self.keys(call, caller, name, rest, verb).await
            }
            _ => Err(no_route(call)),
        }
    }

    fn create_account(&self, call: &Call, caller: &Principal) -> Result<Response> {
        let project = format!("projects/{}", self.identity.project());
        self.need(caller, "iam.serviceAccounts.create", &self.project_target(), &project)?;
        self.identity
            .forbid("iam.disableServiceAccountCreation", "Service account creation is not allowed on this project.")?;
        let desired: Create = call.json()?;
        let texts = desired.service_account;
        let uid = format!("1{:020}", rand::random::<u64>());
        let account =
            self.identity.write().accounts.create(&desired.account_id, uid, texts.display_name, texts.description)?;
        self.identity.young.account(&account.email, self.identity.clock.now());
        Ok(ok(&self.account_json(&account)))
    }

    fn list_accounts(&self, call: &Call, caller: &Principal) -> Result<Response> {
        let project = format!("projects/{}", self.identity.project());
        self.need(caller, "iam.serviceAccounts.list", &self.project_target(), &project)?;
        let state = self.identity.read();
        let accounts = state.accounts.list().map(|account| (account.email.clone(), self.account_json(account)));
        let (accounts, next) = page::page(accounts, &call.page()?, PAGE_MAX)?;
        Ok(ok(&page::answer("accounts", accounts, next)))
    }

    fn account(&self, call: &Call, caller: &Principal, name: &str, verb: Option<&str>) -> Result<Response> {
        let permission = match (&call.method, verb) {
            (&Method::GET, None) => "get",
            (&Method::PATCH, None) => "update",
            (&Method::DELETE, None) => "delete",
            (&Method::POST, Some(verb @ ("disable" | "getIamPolicy" | "setIamPolicy"))) => verb,
            (&Method::GET, Some("getIamPolicy")) => "getIamPolicy",
            (&Method::POST, Some("testIamPermissions")) => "",
            _ => return Err(no_route(call)),
        };
        let found = match self.identity.young.hides(name, self.identity.clock.now()) {
            true => Err(Error::not_found("Unknown service account")),
            false => self.identity.read().accounts.get(name).cloned(),
        };
        let target = match &found {
            Ok(account) => account.target(),
            Err(_) => self.project_target(),
        };
        if !permission.is_empty() {
            let resource = format!("projects/{}/serviceAccounts/{name}", self.identity.project());
            self.need(caller, &format!("iam.serviceAccounts.{permission}"), &target, &resource)?;
        }
        let account = found?;
        let policy = account.policy();
        match (&call.method, verb) {
            (_, Some("getIamPolicy")) => {
                Ok(ok(&policy_json(&self.identity.policy(&policy, requested_version(call)?))?))
            }
            (_, Some("setIamPolicy")) => {
                let desired: SetPolicy = call.json()?;
                Ok(ok(&policy_json(&self.identity.set_policy(&policy, desired.policy, Stale::Aborted)?)?))
            }
            (_, Some("testIamPermissions")) => {
                let desired: TestPermissions = call.json()?;
                Ok(ok(&permissions_json(&self.identity.testable(caller, &desired.permissions, &target))))
            }
            (_, Some(_)) => {
                let mut state = self.identity.write();
                let account = state.accounts.get_mut(name)?;
                account.disabled = true;
                account.revision += 1;
                Ok(ok(&json!({})))
            }
            (&Method::GET, None) => Ok(ok(&self.account_json(&account))),
            (&Method::DELETE, None) => {
                self.identity.write().accounts.delete(name, self.identity.clock.now())?;
                Ok(ok(&json!({})))
            }
            _ => {
                let desired: Patch = call.json()?;
                let mask = call.query("updateMask").unwrap_or(&desired.update_mask).to_owned();
                let has = |field: &str, snake: &str| mask.split(',').any(|name| name == field || name == snake);
                let texts = desired.service_account;
                let display_name = has("displayName", "display_name").then_some(texts.display_name);
                let description = has("description", "description").then_some(texts.description);
                if display_name.is_none() && description.is_none() {
                    return Err(Error::invalid("The update mask must name display_name or description."));
                }
                // Google answers with the changed fields only.
                let full = self.update_account(name, display_name.clone(), description.clone())?;
                let mut answer = json!({ "name": full["name"] });
                if let Some(text) = display_name {
                    answer["displayName"] = json!(text);
                }
                if let Some(text) = description {
                    answer["description"] = json!(text);
                }
                Ok(ok(&answer))
            }
        }
    }

    fn update_account(&self, name: &str, display_name: Option<String>, description: Option<String>) -> Result<Value> {
        check_texts(display_name.as_deref().unwrap_or_default(), description.as_deref().unwrap_or_default())?;
        let mut state = self.identity.write();
        let account = state.accounts.get_mut(name)?;
        if let Some(text) = display_name {
            account.display_name = text;
        }
        if let Some(text) = description {
            account.description = text;
        }
        account.revision += 1;
        Ok(self.account_json(account))
    }

    async fn keys(
        &self,
        call: &Call,
        caller: &Principal,
        name: &str,
        rest: &[&str],
        verb: Option<&str>,
    ) -> Result<Response> {
        let permission = match (&call.method, rest, verb) {
            (&Method::POST, [], None) => "create",
            (&Method::GET, [], None) => "list",
            (&Method::GET, [_], None) => "get",
            (&Method::DELETE, [_], None) => "delete",
            _ => return Err(no_route(call)),
        };
        let account = self.identity.read().accounts.get(name)?.clone();
        let resource = format!("projects/{}/serviceAccounts/{name}", self.identity.project());
        let permission = format!("iam.serviceAccountKeys.{permission}");
        self.need(caller, &permission, &account.target(), &resource)?;
        let id = rest.first().copied().unwrap_or_default();
        let missing = || {
            Error::forbidden(format!(
                "Permission '{permission}' denied on resource '//iam.googleapis.com/{resource}/keys/{id}' (or it may not exist)."
            ))
        };
        let hidden = |id: &str| self.identity.young.hides_key(id, self.identity.clock.now());
        match (&call.method, rest) {
            (&Method::POST, []) => {
                self.identity.forbid(
                    "iam.disableServiceAccountKeyCreation",
                    "Key creation is not allowed on this service account.",
                )?;
                self.create_key(&account).await.map(|it| ok(&it))
            }
            (&Method::GET, []) => {
                let types = call.query_all("keyTypes");
                let desired = types.is_empty() || types.iter().any(|kind| kind == "USER_MANAGED");
                let known = account.keys.iter().filter(|(id, _)| desired && !hidden(id));
                let keys: Vec<Value> = known.map(|(id, key)| self.key_json(&account, id, key)).collect();
                Ok(ok(&if keys.is_empty() { json!({}) } else { json!({ "keys": keys }) }))
            }
            (&Method::GET, _) if hidden(id) => {
                Err(Error::not_found(format!("Service account key {id} does not exist.")))
            }
            (&Method::GET, _) => {
                let key = account.keys.get(id).ok_or_else(missing)?;
                let mut answer = self.key_json(&account, id, key);
                if call.query("publicKeyType").is_some_and(|kind| kind != "TYPE_NONE") {
                    answer["publicKeyData"] = json!(BASE64_STANDARD.encode(&key.public_pem));
                }
                Ok(ok(&answer))
            }
            _ => {
                self.identity.write().accounts.get_mut(name)?.keys.remove(id).ok_or_else(missing)?;
                Ok(ok(&json!({})))
            }
        }
    }

    async fn create_key(&self, account: &Account) -> Result<Value> {
        let made = tokio::task::spawn_blocking(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)).await;
        let pair = made
            .map_err(|error| Error::internal(error.to_string()))?
            .map_err(|error| Error::internal(format!("RSA key cannot be made: {error}")))?;
        let id: String = rand::random::<[u8; 20]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = Key { public_pem: pair.public_key_pem(), created: self.identity.clock.now() };
        self.identity.write().accounts.get_mut(&account.uid)?.add_key(id.clone(), key.clone())?;
        self.identity.young.key(&id, key.created);
        let file = json!({
            "type": "service_account",
            "project_id": self.identity.project(),
            "private_key_id": id,
            "private_key": pair.serialize_pem(),
            "client_email": account.email,
            "client_id": account.uid,
            "auth_uri": format!("{}/o/oauth2/auth", self.base),
            "token_uri": format!("{}/token", self.base),
            "auth_provider_x509_cert_url": format!("{}/oauth2/v1/certs", self.base),
            "client_x509_cert_url": format!("{}/robot/v1/metadata/x509/{}", self.base, account.email),
            "universe_domain": "googleapis.com",
        });
        let mut answer = self.key_json(account, &id, &key);
        answer["privateKeyData"] = json!(BASE64_STANDARD.encode(file.to_string()));
        answer["privateKeyType"] = json!("TYPE_GOOGLE_CREDENTIALS_FILE");
        Ok(answer)
    }

    fn account_json(&self, account: &Account) -> Value {
        let project = self.identity.project();
        let mut value = json!({
            "name": format!("projects/{project}/serviceAccounts/{}", account.email),
            "projectId": project,
            "uniqueId": account.uid,
            "email": account.email,
            "etag": account.etag(),
            "oauth2ClientId": account.uid,
        });
        if !account.display_name.is_empty() {
            value["displayName"] = json!(account.display_name);
        }
        if !account.description.is_empty() {
            value["description"] = json!(account.description);
        }
        if account.disabled {
            value["disabled"] = json!(true);
        }
        value
    }

    fn key_json(&self, account: &Account, id: &str, key: &Key) -> Value {
        json!({
            "name": format!("projects/{}/serviceAccounts/{}/keys/{id}", self.identity.project(), account.email),
            "validAfterTime": key.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "validBeforeTime": "9999-12-31T23:59:59Z",
            "keyAlgorithm": "KEY_ALG_RSA_2048",
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
        })
    }
}
