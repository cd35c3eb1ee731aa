//! The voices there are. To add one, write its file beside this one, and its line in [`VOICES`].

mod sine;

use crate::wire::ids::VoiceKey;

use super::voice::VoiceInfo;

/// Every shared voice, in the order in which people see them. A [`VoiceKey`] is a place in this list.
pub static VOICES: &[VoiceInfo] = &[sine::LOW, sine::MID, sine::HIGH];

/// The voice that clients call `id`.
#[must_use]
pub fn voice_by_id(id: &str) -> Option<(VoiceKey, &'static VoiceInfo)> {
    voices().find(|(_, info)| info.id == id)
}

/// The voice of that key, if there is one.
#[must_use]
pub fn voice_by_key(voice: VoiceKey) -> Option<&'static VoiceInfo> {
    VOICES.get(usize::from(voice.0))
}

/// Every voice with its key, in the order in which people see them.
pub fn voices() -> impl Iterator<Item = (VoiceKey, &'static VoiceInfo)> {
    (0..).map(VoiceKey).zip(VOICES)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_lead_back_to_their_voice() {
        let ids: HashSet<_> = VOICES.iter().map(|info| info.id).collect();
        assert_eq!(ids.len(), VOICES.len());
        for (key, info) in voices() {
            let (found, same) = voice_by_id(info.id).expect("it is in the list");
            assert_eq!((found, same.name), (key, info.name));
            assert_eq!(voice_by_key(key).map(|info| info.id), Some(info.id));
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_not_found() {
        assert!(voice_by_id("sine-221").is_none());
        assert!(voice_by_key(VoiceKey(u16::MAX)).is_none());
    }

    #[test]
    fn the_published_voices_are_these() {
        let published: Vec<_> = VOICES.iter().map(|info| (info.id, info.name)).collect();
        assert_eq!(
            published,
            [("sine-220", "Low Tone (220 Hz)"), ("sine-440", "Mid Tone (440 Hz)"), ("sine-880", "High Tone (880 Hz)"),]
        );
    }
}
