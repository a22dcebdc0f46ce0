//! What is left of a scenario when its jobs have ended: the state of its devices, and whether its
//! boards are off. Read from the texts that are compared.

/// What is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// State and health that LAVA announced last of each device: `Idle Unknown`.
    pub devices: Vec<String>,
    /// Of each board, whether the last power command was to switch it off.
    pub off: Vec<bool>,
}

/// What `results` and `ledger` say of it.
#[must_use]
pub fn aftermath(results: &str, ledger: &str) -> Aftermath {
    let mut left = Aftermath::default();
    let mut section = "";
    for line in results.lines() {
        let Some(line) = line.strip_prefix("  ") else {
            section = line;
            continue;
        };
        if section == "announced"
            && let Some((_, states)) = line.strip_prefix("device ").and_then(|rest| rest.split_once(": "))
        {
            left.devices.push(states.rsplit(", ").next().unwrap_or(states).to_owned());
        }
    }
    for line in ledger.lines() {
        if line.starts_with("board ") {
            left.off.push(false);
        } else if let (Some(action), Some(off)) = (line.strip_prefix("  power "), left.off.last_mut()) {
            *off = action == "off";
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_device_and_of_each_board_counts() {
        let results = "job\n  health: Incomplete\nannounced\n  job: Submitted Unknown\n  \
                       device [BOARD]: Reserved Good, Running Good, Idle Unknown\nsuite lava\n  device x: pass\n";
        let ledger = "board [BOARD]\n  power off\n  power reset\n  stage firmware\n  power off\n  console 0 closed\n\
                      board other\n  power on\n";
        let left = aftermath(results, ledger);
        assert_eq!(left, Aftermath { devices: vec!["Idle Unknown".into()], off: vec![true, false] });
    }

    #[test]
    fn of_a_refused_job_nothing_is_left() {
        assert_eq!(aftermath("job\n  refused by LAVA\n", ""), Aftermath::default());
    }
}
