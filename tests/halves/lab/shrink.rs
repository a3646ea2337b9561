//! A smaller script that fails as well.

use super::script::Script;

/// The bytes of the smallest script found that fails as `bytes` does.
pub fn shrink(bytes: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = bytes;
    loop {
        let before = best.clone();
        for count in [32, 8, 4, 2, 1] {
            let mut at = 0;
            while let Some(shorter) = Script::without_steps(&best, at, count) {
                if fails(&shorter) {
                    best = shorter;
                } else {
                    at += 1;
                }
            }
        }
        // Zeros are the plainest settings, and the plainest details of a step.
        for at in 0..best.len() {
            for plain in [0, best[at] & 1, best[at] / 2] {
                if best[at] > plain {
                    let mut plainer = best.clone();
                    plainer[at] = plain;
                    if fails(&plainer) {
                        best = plainer;
                    }
                }
            }
        }
        if best == before {
            return best;
        }
    }
}
