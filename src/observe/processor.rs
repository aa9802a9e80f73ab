//! What /proc/cpuinfo says of one processor (proc(5)).

use std::path::Path;

/// Returns the microcode revision of a processor; `None` where /proc/cpuinfo has none.
#[must_use]
pub fn microcode(proc: &Path, cpu: u32) -> Option<String> {
    let text = std::fs::read_to_string(proc.join("cpuinfo")).ok()?;
    microcode_in(&text, cpu)
}

fn microcode_in(text: &str, cpu: u32) -> Option<String> {
    let value = |line: &str, name: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    let mut lines =
        text.lines().skip_while(|line| value(line, "processor") != Some(cpu.to_string()));
    lines.next()?;
    lines.take_while(|line| !line.trim().is_empty()).find_map(|line| value(line, "microcode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_microcode_is_that_of_the_processor() {
        let text = "processor\t: 0\nmicrocode\t: 0x1\n\nprocessor\t: 1\nmodel\t: 85\nmicrocode\t: 0x2b\n\nprocessor : 2\n\n";
        let found = [0, 1, 2, 3].map(|cpu| microcode_in(text, cpu));
        assert_eq!(found, [Some("0x1".into()), Some("0x2b".into()), None, None]);
    }
}
