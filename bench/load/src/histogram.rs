//! Latencies, to about 3 %.

/// Parts of an octave.
const PARTS: u32 = 5;

/// Counts of times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, nanos: u64) {
        let bucket = bucket(nanos);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.sum += 1;
    }

    /// The time that so many of a thousand do not pass.
    pub(crate) fn per_mille(&self, part: u64) -> Option<u64> {
        let wanted = (self.sum * part).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(top(bucket));
            }
        }
        None
    }
}

fn bucket(nanos: u64) -> usize {
    let octave = nanos.max(1).ilog2();
    if octave < PARTS {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let part = (nanos >> (octave - PARTS)) - (1 << PARTS);
    ((octave - PARTS + 1) as usize) * (1 << PARTS) + usize::try_from(part).unwrap_or(0)
}

/// The largest time of a bucket.
fn top(bucket: usize) -> u64 {
    let (octave, part) = (bucket >> PARTS, (bucket & ((1 << PARTS) - 1)) as u64);
    if octave == 0 {
        return part;
    }
    (((1 << PARTS) + part + 1) << (octave - 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_falls_into_it() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 1000, 123_456, 9_999_999] {
            let top = top(bucket(nanos));
            assert!(
                top >= nanos && top <= nanos + nanos / 32 + 1,
                "{nanos} {top}"
            );
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.per_mille(500), None);
        (1..=100).for_each(|nanos| histogram.add(nanos * 1000));
        let p50 = histogram.per_mille(500).unwrap();
        assert!((50_000..52_000).contains(&p50), "{p50}");
        let p99 = histogram.per_mille(990).unwrap();
        assert!((99_000..103_000).contains(&p99), "{p99}");
    }
}
