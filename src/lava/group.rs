//! A group: the jobs that LAVA makes of one definition with roles, one for each board.
//!
//! A submission answers with their sub-ids (`12.0`, `12.1`), of which only the first part is
//! an id; all that is asked of a job is asked by its id. What each is of the group is in
//! its definition, as LAVA has split it (`split_multinode_yaml` in `lava_scheduler_app/utils.py`).

use serde::Deserialize;
use serde_json::Value;

use super::Api;
use crate::error::{Error, Result};

/// What a job is of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The group's name, a UUID.
    pub target_group: String,
    /// The job's role.
    pub role: String,
    /// Its number in the group, from 0, the roles in the order of the definition.
    pub sub_id: u64,
}

impl Member {
    /// What the `details` of a job say, if it is one of a group.
    #[must_use]
    pub fn of(details: &Value) -> Option<Self> {
        serde_yaml::from_value(multinode(details.get("definition")?.as_str()?)?).ok()
    }
}

/// What a job's definition says of its group.
fn multinode(definition: &str) -> Option<serde_yaml::Value> {
    let definition: serde_yaml::Value = serde_yaml::from_str(definition).ok()?;
    definition.get("protocols")?.get("lava-multinode").cloned()
}

/// How many jobs LAVA makes of a definition by its roles; 0 where it has none.
#[must_use]
pub fn size(definition: &str) -> usize {
    let count = || {
        let group = multinode(definition)?;
        let counts =
            group.get("roles")?.as_mapping()?.values().filter_map(|role| role.get("count")?.as_u64());
        usize::try_from(counts.sum::<u64>()).ok()
    };
    // Boundless numbers are LAVA's to refuse.
    count().unwrap_or_default().min(1000)
}

impl Api {
    /// The ids of the jobs that a submission answered with, which may be sub-ids, in the same
    /// order.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when LAVA does not tell.
    pub async fn ids(&self, answered: Vec<String>) -> Result<Vec<String>> {
        let Some((first, _)) = answered.first().and_then(|id| id.split_once('.')) else {
            return Ok(answered);
        };
        let what = format!("find the jobs of the group of job {first}");
        let parent = self.job(first).await?;
        let group = Member::of(&parent.raw).map(|member| member.target_group);
        let later = self.list(&what, &format!("jobs/?id__gt={first}")).await?;
        let id = |details: &Value| details.get("id").and_then(Value::as_u64).map(|id| id.to_string());
        let mut members: Vec<(u64, String)> = std::iter::once(&parent.raw)
            .chain(&later)
            .filter_map(|details| Some((Member::of(details)?, id(details)?)))
            .filter(|(member, _)| Some(&member.target_group) == group.as_ref())
            .map(|(member, id)| (member.sub_id, id))
            .collect();
        members.sort();
        if members.len() != answered.len() {
            return Err(Error::failed(
                what,
                format!(
                    "LAVA accepted {}, and {} jobs are of that group",
                    answered.join(", "),
                    members.len()
                ),
            ));
        }
        Ok(members.into_iter().map(|(_, id)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_jobs_definition_tells_what_it_is_of_its_group() {
        let definition = "actions: []\nprotocols:\n  lava-multinode:\n    group_size: 3\n    role: client\n    \
                          sub_id: 2\n    target_group: f5a0\n    roles: {'12': server}\n";
        let member = Member { target_group: "f5a0".into(), role: "client".into(), sub_id: 2 };
        assert_eq!(Member::of(&json!({ "definition": definition })), Some(member));
        assert_eq!(Member::of(&json!({ "definition": "actions: []" })), None);
        assert_eq!(Member::of(&json!({ "definition": "[" })), None);
    }

    #[test]
    fn a_group_has_as_many_jobs_as_its_roles_say() {
        let group = |roles: &str| size(&format!("protocols: {{lava-multinode: {{roles: {roles}}}}}"));
        assert_eq!(group("{host: {device_type: ssh, count: 1}, guest: {connection: ssh, count: 2}}"), 3);
        assert_eq!(group("{host: {count: 1000000}}"), 1000);
        assert_eq!((group("{host: 1}"), size("actions: []"), size("[")), (0, 0, 0));
    }
}
