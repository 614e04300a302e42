//! Bodies in protobuf: kubectl's `create`, `auth` and `expose` commands send nothing else.
//!
//! What they send is read by a table of the messages and fields those commands can fill. A field that is not in the
//! table is an error that names it, never dropped in silence; everything else is sent as JSON or YAML anyway.

use std::{collections::HashMap, sync::LazyLock};

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::value;

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting that is read.
const DEPTH: usize = 32;

/// Messages: name, then `number field type`. Types: `s` text, `y` bytes, `i` number, `b` truth, `n` and `f` the same
/// but absent when 0 or false, `t` time, `q` quantity, `x` number or text, `_` passed over, or another message; `*`
/// marks a list, `%` a map from texts.
const MESSAGES: &str = "
Unknown: 1 typeMeta TypeMeta, 2 raw y, 3 contentEncoding s, 4 contentType s
TypeMeta: 1 apiVersion s, 2 kind s
ObjectMeta: 1 name s, 2 generateName s, 3 namespace s, 5 uid s, 6 resourceVersion s, 7 generation n, 8 creationTimestamp t, 11 labels %s, 12 annotations %s, 14 finalizers *s
LabelSelector: 1 matchLabels %s
LocalObjectReference: 1 name s
Namespace: 1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status _
NamespaceSpec: 1 finalizers *s
ConfigMap: 1 metadata ObjectMeta, 2 data %s, 3 binaryData %y, 4 immutable b
Secret: 1 metadata ObjectMeta, 2 data %y, 3 type s, 4 stringData %s, 5 immutable b
ServiceAccount: 1 metadata ObjectMeta, 3 imagePullSecrets *LocalObjectReference, 4 automountServiceAccountToken b
Pod: 1 metadata ObjectMeta, 2 spec PodSpec, 3 status _
PodTemplateSpec: 1 metadata ObjectMeta, 2 spec PodSpec
PodSpec: 2 containers *Container, 3 restartPolicy s, 4 terminationGracePeriodSeconds i, 5 activeDeadlineSeconds i, 6 dnsPolicy s, 7 nodeSelector %s, 8 serviceAccountName s, 9 serviceAccount s, 10 nodeName s, 11 hostNetwork f, 12 hostPID f, 13 hostIPC f, 14 securityContext _, 16 hostname s, 17 subdomain s, 19 schedulerName s, 20 initContainers *Container, 21 automountServiceAccountToken b, 24 priorityClassName s
Container: 1 name s, 2 image s, 3 command *s, 4 args *s, 5 workingDir s, 6 ports *ContainerPort, 7 env *EnvVar, 8 resources Resources, 13 terminationMessagePath s, 14 imagePullPolicy s, 16 stdin f, 17 stdinOnce f, 18 tty f, 20 terminationMessagePolicy s
ContainerPort: 1 name s, 2 hostPort n, 3 containerPort i, 4 protocol s, 5 hostIP s
EnvVar: 1 name s, 2 value s
Resources: 1 limits %q, 2 requests %q
Job: 1 metadata ObjectMeta, 2 spec JobSpec, 3 status _
JobSpec: 1 parallelism i, 2 completions i, 3 activeDeadlineSeconds i, 6 template PodTemplateSpec, 7 backoffLimit i, 8 ttlSecondsAfterFinished i, 9 completionMode s, 10 suspend b
Deployment: 1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status _
DeploymentSpec: 1 replicas i, 2 selector LabelSelector, 3 template PodTemplateSpec, 4 strategy Strategy, 5 minReadySeconds n, 6 revisionHistoryLimit i, 7 paused f, 9 progressDeadlineSeconds i
Strategy: 1 type s
Service: 1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status _
ServiceSpec: 1 ports *ServicePort, 2 selector %s, 3 clusterIP s, 4 type s, 7 sessionAffinity s, 8 loadBalancerIP s, 10 externalName s, 11 externalTrafficPolicy s, 12 healthCheckNodePort n, 13 publishNotReadyAddresses f
ServicePort: 1 name s, 2 protocol s, 3 port i, 4 targetPort x, 5 nodePort n
ResourceQuota: 1 metadata ObjectMeta, 2 spec QuotaSpec, 3 status _
QuotaSpec: 1 hard %q, 2 scopes *s
Role: 1 metadata ObjectMeta, 2 rules *PolicyRule
ClusterRole: 1 metadata ObjectMeta, 2 rules *PolicyRule
PolicyRule: 1 verbs *s, 2 apiGroups *s, 3 resources *s, 4 resourceNames *s, 5 nonResourceURLs *s
RoleBinding: 1 metadata ObjectMeta, 2 subjects *Subject, 3 roleRef RoleRef
ClusterRoleBinding: 1 metadata ObjectMeta, 2 subjects *Subject, 3 roleRef RoleRef
Subject: 1 kind s, 2 apiGroup s, 3 name s, 4 namespace s
RoleRef: 1 apiGroup s, 2 kind s, 3 name s
PriorityClass: 1 metadata ObjectMeta, 2 value i, 3 globalDefault f, 4 description s, 5 preemptionPolicy s
PodDisruptionBudget: 1 metadata ObjectMeta, 2 spec BudgetSpec, 3 status _
BudgetSpec: 1 minAvailable x, 2 selector LabelSelector, 3 maxUnavailable x
SelfSubjectAccessReview: 1 metadata ObjectMeta, 2 spec AccessSpec, 3 status _
AccessSpec: 1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes NonResourceAttributes
ResourceAttributes: 1 namespace s, 2 verb s, 3 group s, 4 version s, 5 resource s, 6 subresource s, 7 name s
NonResourceAttributes: 1 path s, 2 verb s
SelfSubjectRulesReview: 1 metadata ObjectMeta, 2 spec RulesSpec, 3 status _
RulesSpec: 1 namespace s
TokenRequest: 1 metadata ObjectMeta, 2 spec TokenSpec, 3 status _
TokenSpec: 1 audiences *s, 3 boundObjectRef BoundObject, 4 expirationSeconds i
BoundObject: 1 kind s, 2 apiVersion s, 3 name s, 4 uid s
Scale: 1 metadata ObjectMeta, 2 spec ScaleSpec, 3 status _
ScaleSpec: 1 replicas i
DeleteOptions: 1 gracePeriodSeconds i, 2 preconditions Preconditions, 3 orphanDependents b, 4 propagationPolicy s, 5 dryRun *s
Preconditions: 1 uid s, 2 resourceVersion s
";

type Fields = HashMap<u64, (&'static str, &'static str)>;

static TABLE: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
    let messages = MESSAGES.lines().filter_map(|line| line.split_once(": "));
    messages
        .map(|(name, fields)| {
            let fields = fields.split(", ").filter_map(|field| {
                let mut words = field.split(' ');
                Some((words.next()?.parse().ok()?, (words.next()?, words.next()?)))
            });
            (name, fields.collect())
        })
        .collect()
});

/// One field as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a body as the JSON of the object in it.
///
/// # Errors
/// What cannot be read, for a person.
pub fn read(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(MAGIC).ok_or("the body does not begin as Kubernetes protobuf does")?;
    let envelope = message("Unknown", body, 0)?;
    let kind = value::text(&envelope, "/typeMeta/kind").to_owned();
    let raw = base64::engine::general_purpose::STANDARD.decode(value::text(&envelope, "/raw"));
    let mut object = message(&kind, &raw.map_err(|error| error.to_string())?, 0)?;
    value::set(&mut object, &["kind"], kind);
    value::set(&mut object, &["apiVersion"], value::text(&envelope, "/typeMeta/apiVersion"));
    Ok(object)
}

fn message(name: &str, mut bytes: &[u8], depth: usize) -> Result<Value, String> {
    let fields = TABLE.get(name).ok_or_else(|| format!("protobuf of a {name} is not read here; send JSON"))?;
    if depth > DEPTH {
        return Err("the body is nested too deep".to_owned());
    }
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, wire) = field(&mut bytes)?;
        let Some((field, kind)) = fields.get(&number) else {
            // Go writes many fields that are empty.
            if matches!(wire, Wire::Number(0) | Wire::Bytes([])) {
                continue;
            }
            return Err(format!("field {number} of a {name} in protobuf is not read here; send JSON"));
        };
        if let Some(item) = kind.strip_prefix('*') {
            if let Some(item) = single(item, wire, depth)?.or_else(|| (item == "s").then(|| json!(""))) {
                let list = object.entry(*field).or_insert_with(|| json!([]));
                list.as_array_mut().into_iter().for_each(|list| list.push(item.clone()));
            }
        } else if let Some(item) = kind.strip_prefix('%') {
            let (key, found) = entry(item, wire, depth)?;
            let map = object.entry(*field).or_insert_with(|| json!({}));
            map.as_object_mut().into_iter().for_each(|map| drop(map.insert(key.clone(), found.clone())));
        } else if let Some(found) = single(kind, wire, depth)? {
            object.insert((*field).to_owned(), found);
        }
    }
    Ok(Value::Object(object))
}

/// A value; none for one that is as good as absent.
fn single(kind: &str, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, String> {
    Ok(match (kind, wire) {
        ("_", _) => None,
        // Go writes numbers as 64 bits in two's complement.
        ("i", Wire::Number(number)) => Some(json!(number.cast_signed())),
        ("b", Wire::Number(number)) => Some(json!(number != 0)),
        ("n", Wire::Number(number)) => (number != 0).then(|| json!(number.cast_signed())),
        ("f", Wire::Number(number)) => (number != 0).then_some(Value::Bool(true)),
        ("s", Wire::Bytes(bytes)) => Some(json!(text(bytes)?)).filter(|text| text != ""),
        ("y", Wire::Bytes(bytes)) => Some(json!(base64::engine::general_purpose::STANDARD.encode(bytes))),
        ("q", Wire::Bytes(mut bytes)) => match field(&mut bytes)? {
            (1, Wire::Bytes(bytes)) => Some(json!(text(bytes)?)),
            _ => return Err("a quantity is not text".to_owned()),
        },
        ("t", Wire::Bytes(mut bytes)) => match bytes.is_empty() {
            true => None,
            false => match field(&mut bytes)? {
                (1, Wire::Number(seconds)) => {
                    jiff::Timestamp::from_second(seconds.cast_signed()).ok().map(|time| json!(value::seconds(time)))
                }
                _ => None,
            },
        },
        ("x", Wire::Bytes(mut bytes)) => {
            let (mut is_text, mut number, mut word) = (false, 0, String::new());
            while !bytes.is_empty() {
                match field(&mut bytes)? {
                    (1, Wire::Number(kind)) => is_text = kind == 1,
                    (2, Wire::Number(found)) => number = found.cast_signed(),
                    (3, Wire::Bytes(bytes)) => word = text(bytes)?,
                    _ => {}
                }
            }
            Some(if is_text { json!(word) } else { json!(number) })
        }
        (name, Wire::Bytes(bytes)) => Some(message(name, bytes, depth + 1)?),
        (_, Wire::Number(_)) => return Err("a number where something else belongs".to_owned()),
    })
}

fn entry(kind: &str, wire: Wire<'_>, depth: usize) -> Result<(String, Value), String> {
    let Wire::Bytes(mut bytes) = wire else { return Err("a map entry is a number".to_owned()) };
    let (mut key, mut found) = (String::new(), json!(""));
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = single(kind, wire, depth)?.unwrap_or_else(|| json!("")),
            _ => {}
        }
    }
    Ok((key, found))
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Wire<'a>), String> {
    let tag = varint(bytes)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|error| error.to_string())?;
            let (here, rest) = bytes.split_at_checked(length).ok_or("the body ends too soon")?;
            *bytes = rest;
            Wire::Bytes(here)
        }
        other => return Err(format!("wire type {other} is not read here")),
    };
    Ok((tag >> 3, wire))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("the body ends too soon")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_in_the_table_is_known() {
        for (name, fields) in TABLE.iter() {
            for (field, kind) in fields.values() {
                let kind = kind.trim_start_matches(['*', '%']);
                assert!(kind.len() == 1 || TABLE.contains_key(kind), "{name}.{field}: {kind}");
            }
        }
    }

    #[test]
    fn a_namespace_is_read_and_rubbish_is_not() {
        let mut body = MAGIC.to_vec();
        body.extend(b"\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x07\x0a\x05\x0a\x03bu1");
        let expected = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bu1"}});
        assert_eq!(read(&body), Ok(expected));
        for end in 4..body.len() {
            let _ = read(&body[..end]);
        }
        assert!(read(b"{}").is_err());
        assert!(read(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
