//! Creating and changing objects: what the API server does between reading a request and writing the store.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    autopilot,
    cluster::Cluster,
    defaults,
    failure::{Answer, Failure},
    kinds::{self, Kind},
    managed, names,
    patch::{self, Patch},
    pod_security, quota,
    request::Target,
    store::{Key, Transaction},
    typed::{self, Validation},
    validate,
    value::{self, text},
};

/// How a write is to be done.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Do all but write.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub validation: Validation,
    /// Name of the field manager.
    pub manager: String,
    /// Whether an apply takes over fields of other managers.
    pub force: bool,
}

/// What a write gave.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object after it.
    pub object: Arc<Value>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
    /// Whether the object is new.
    pub created: bool,
}

impl Cluster {
    /// Creates an object.
    ///
    /// # Errors
    /// As the API server answers: 400, 403, 404 (namespace), 409, 422.
    pub fn create(&self, target: &Target, mut body: Value, how: &How) -> Answer<Written> {
        check_kind(target.kind, &body)?;
        place(target, &mut body)?;
        if value::name(&body).is_empty() {
            let base = text(&body, "/metadata/generateName");
            if !base.is_empty() {
                let name = names::generate(base);
                value::set(&mut body, &["metadata", "name"], name);
            }
        }
        let metadata = value::map_at(&mut body, &["metadata"]);
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"]
        {
            metadata.remove(field);
        }
        let (mut object, warnings) = self.fresh(target.kind, body, how)?;
        managed::created_by(target.kind, &mut object, &how.manager, self.clock.now());
        let object = self.store.write(|transaction| insert(transaction, target.kind, object, how))?;
        Ok(Written { object, warnings, created: true })
    }

    /// Replaces an object, or its status or scale.
    ///
    /// # Errors
    /// As the API server answers: 400, 404, 409, 422.
    pub fn update(&self, target: &Target, mut body: Value, how: &How) -> Answer<Written> {
        if target.subresource == "scale" {
            return self.change(target, how, |old| super::scale::rescale(old, &body));
        }
        check_kind(target.kind, &body)?;
        place(target, &mut body)?;
        if !value::name(&body).is_empty() && value::name(&body) != target.name {
            let message = format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                value::name(&body),
                target.name
            );
            return Err(Failure::bad_request(message));
        }
        value::set(&mut body, &["metadata", "name"], target.name.clone());
        self.change(target, how, |_| Ok(body))
    }

    /// Patches an object, or its status or scale.
    ///
    /// # Errors
    /// As the API server answers: 400, 404, 409, 422.
    pub fn patch(&self, target: &Target, with: &Patch, how: &How) -> Answer<Written> {
        if let Patch::Apply(desired) = with {
            return self.apply(target, desired, how);
        }
        if target.subresource == "scale" {
            return self.change(target, how, |old| {
                let mut scale = super::scale::view(old);
                patch::patch(&mut scale, with)?;
                super::scale::rescale(old, &scale)
            });
        }
        self.change(target, how, |old| {
            let mut object = old.clone();
            patch::patch(&mut object, with)?;
            // A patch need not name a version; one that does is held to it.
            Ok(object)
        })
    }

    /// Reads, defaults and checks a new object and gives it its identity.
    ///
    /// # Errors
    /// 400 for wrong types, 422 for what is invalid.
    pub fn fresh(&self, kind: &'static Kind, mut body: Value, how: &How) -> Answer<(Value, Vec<String>)> {
        let metadata = value::map_at(&mut body, &["metadata"]);
        metadata.insert("uid".to_owned(), names::uid().into());
        metadata.insert("creationTimestamp".to_owned(), value::seconds(self.clock.now()).into());
        metadata.remove("generation");
        if kind.generation {
            metadata.insert("generation".to_owned(), 1.into());
        }
        let (mut object, warnings) = typed::read(kind, body, how.validation)?;
        if kind.has("status") {
            value::unset(&mut object, &["status"]);
        }
        defaults::fill(kind, &mut object, true);
        if kind.has("status") {
            value::set_default(&mut object, &["status"], json!({}));
        }
        let causes = validate::create(kind, &object);
        if !causes.is_empty() {
            let name = match value::name(&object) {
                "" => text(&object, "/metadata/generateName"),
                name => name,
            };
            return Err(Failure::invalid(kind, name, &causes));
        }
        Ok((object, warnings))
    }

    /// Changes an object by what `edit` makes of it, with all the rules of an update.
    fn change(&self, target: &Target, how: &How, edit: impl FnOnce(&Value) -> Answer<Value>) -> Answer<Written> {
        let kind = target.kind;
        self.store.write(|transaction| {
            let old = transaction
                .get(kind, &target.namespace, &target.name)
                .ok_or_else(|| Failure::not_found(kind, &target.name))?;
            let new = edit(&old)?;
            let (mut new, warnings) = succeed(kind, &old, new, &target.subresource, how)?;
            managed::track(kind, &old, &mut new, &how.manager, &target.subresource, self.clock.now());
            let object = commit(transaction, kind, &old, new, how);
            Ok(Written { object, warnings, created: false })
        })
    }
}

/// Writes a new object, if its place is free and there is room for it.
///
/// # Errors
/// 403, 404 for its namespace, 409 when its name is taken.
pub fn insert(transaction: &mut Transaction<'_>, kind: &'static Kind, object: Value, how: &How) -> Answer<Arc<Value>> {
    let (namespace, name) = (value::namespace(&object), value::name(&object));
    if kind.namespaced {
        let place = transaction
            .get(&kinds::NAMESPACE, "", namespace)
            .ok_or_else(|| Failure::not_found(&kinds::NAMESPACE, namespace))?;
        if value::is_deleting(&place) {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            let mut failure = Failure::forbidden(kind, name, &why);
            if let Some(details) = &mut failure.details {
                details["causes"] = json!([{
                    "reason": "NamespaceTerminating", "field": "metadata.namespace",
                    "message": format!("namespace {namespace} is being terminated"),
                }]);
            }
            return Err(failure);
        }
    }
    if transaction.get(kind, namespace, name).is_some() {
        return Err(Failure::already_exists(kind, name));
    }
    let object = if kind == &kinds::POD { admit_pod(transaction, object)? } else { object };
    quota::admit(transaction, kind, &object)?;
    Ok(if how.dry_run { Arc::new(object) } else { transaction.put(kind, object) })
}

/// Refuses a pod whose service account or priority class is not there, or that its namespace holds to be unsafe; gives
/// it its priority.
fn admit_pod(transaction: &Transaction<'_>, mut pod: Value) -> Answer<Value> {
    let (namespace, name) = (value::namespace(&pod), value::name(&pod));
    let account = text(&pod, "/spec/serviceAccountName");
    // The account `default` follows its namespace in a moment.
    if account != "default" && transaction.get(&kinds::SERVICE_ACCOUNT, namespace, account).is_none() {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(Failure::forbidden(&kinds::POD, name, &why));
    }
    let class = text(&pod, "/spec/priorityClassName");
    if !class.is_empty() {
        let found = transaction.get(&kinds::PRIORITY_CLASS, "", class).ok_or_else(|| {
            Failure::forbidden(&kinds::POD, name, &format!("no PriorityClass with name {class} was found"))
        })?;
        value::set(&mut pod, &["spec", "priority"], value::number(&found, "/value").unwrap_or_default());
    }
    pod_security::admit(transaction, &pod)?;
    if transaction.is_autopilot() {
        autopilot::limit_storage(&mut pod);
    }
    Ok(pod)
}

/// What `old` becomes when `new` is written over it: the parts that the request may not touch stay.
pub(super) fn succeed(
    kind: &'static Kind,
    old: &Value,
    new: Value,
    subresource: &str,
    how: &How,
) -> Answer<(Value, Vec<String>)> {
    let name = value::name(old);
    let version = text(&new, "/metadata/resourceVersion");
    if !version.is_empty() && version != text(old, "/metadata/resourceVersion") {
        return Err(Failure::modified(kind, name));
    }
    let uid = value::uid(&new);
    if !uid.is_empty() && uid != value::uid(old) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", value::uid(old));
        return Err(Failure::conflict(kind, name, &why));
    }
    let (typed, warnings) = typed::read(kind, new, how.validation)?;
    let mut object = if subresource == "status" {
        let mut object = old.clone();
        value::set(&mut object, &["status"], typed.get("status").cloned().unwrap_or_else(|| json!({})));
        object
    } else {
        let mut object = typed;
        if kind.has("status") {
            match old.get("status") {
                Some(status) => value::set(&mut object, &["status"], status.clone()),
                None => drop(value::unset(&mut object, &["status"])),
            }
        }
        if kind == &kinds::NAMESPACE {
            value::set(&mut object, &["spec"], old.get("spec").cloned().unwrap_or_default());
        }
        object
    };
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
        "managedFields",
    ] {
        match old.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(kept) => value::set(&mut object, &["metadata", field], kept.clone()),
            None => drop(value::unset(&mut object, &["metadata", field])),
        }
    }
    if subresource != "status" {
        defaults::fill(kind, &mut object, false);
        let mut causes = validate::update(kind, old, &object);
        if value::is_deleting(old) {
            let fresh = value::items(&object, "/metadata/finalizers").iter();
            let fresh: Vec<_> = fresh.filter(|one| !value::items(old, "/metadata/finalizers").contains(one)).collect();
            if !fresh.is_empty() {
                causes.push(super::failure::Cause::forbidden(
                    "metadata.finalizers",
                    &format!(
                        "no new finalizers can be added if the object is being deleted, found new finalizers {fresh:?}"
                    ),
                ));
            }
        }
        if !causes.is_empty() {
            return Err(Failure::invalid(kind, name, &causes));
        }
        if kind.generation && old.get("spec") != object.get("spec") {
            let generation = value::number(old, "/metadata/generation").unwrap_or_default() + 1;
            value::set(&mut object, &["metadata", "generation"], generation);
        }
    }
    Ok((object, warnings))
}

/// Writes a change; an object that was only waiting for its last finalizer is gone with it.
pub(super) fn commit(
    transaction: &mut Transaction<'_>,
    kind: &'static Kind,
    old: &Value,
    new: Value,
    how: &How,
) -> Arc<Value> {
    if how.dry_run {
        return Arc::new(new);
    }
    if is_finished(kind, &new) {
        let key = Key::of(kind, old);
        transaction.put(kind, new);
        return transaction.remove(&key).unwrap_or_else(|| Arc::new(old.clone()));
    }
    transaction.put(kind, new)
}

/// Whether an object that is being deleted has nothing left to wait for.
pub fn is_finished(kind: &Kind, object: &Value) -> bool {
    value::is_deleting(object)
        && value::items(object, "/metadata/finalizers").is_empty()
        && (kind != &kinds::NAMESPACE || value::items(object, "/spec/finalizers").is_empty())
        && (kind != &kinds::POD || value::number(object, "/metadata/deletionGracePeriodSeconds") == Some(0))
}

/// Refuses a body of another kind than the path's.
pub(super) fn check_kind(kind: &Kind, body: &Value) -> Answer<()> {
    if !body.is_object() {
        return Err(Failure::bad_request("the body is not an object"));
    }
    let (given_version, given_kind) = (text(body, "/apiVersion"), text(body, "/kind"));
    if !given_kind.is_empty() && given_kind != kind.kind
        || !given_version.is_empty() && given_version != kind.api_version()
    {
        let message = format!(
            "{given_kind} in version {given_version:?} cannot be handled as a {}: no kind {given_kind:?} is registered \
             for version {:?}",
            kind.kind,
            kind.api_version()
        );
        return Err(Failure::bad_request(message));
    }
    Ok(())
}

/// Gives the body the namespace and type of the path.
pub(super) fn place(target: &Target, body: &mut Value) -> Answer<()> {
    value::set(body, &["apiVersion"], target.kind.api_version());
    value::set(body, &["kind"], target.kind.kind);
    if !target.kind.namespaced {
        value::unset(body, &["metadata", "namespace"]);
        return Ok(());
    }
    if target.namespace.is_empty() {
        return Err(Failure::method_not_allowed());
    }
    let given = value::namespace(body);
    if !given.is_empty() && given != target.namespace {
        let message = format!(
            "the namespace of the provided object does not match the namespace sent on the request ({given} != {})",
            target.namespace
        );
        return Err(Failure::bad_request(message));
    }
    value::set(body, &["metadata", "namespace"], target.namespace.clone());
    Ok(())
}
