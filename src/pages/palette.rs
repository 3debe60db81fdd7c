//! The colours of the pages: four that an operator may choose, and all others derived from them so that text is readable.
//!
//! Input: `pages.colors`. Output: custom properties for the style sheet, light and dark. Invariants: a value of the file
//! never gets into the style sheet as it was typed (a colour is parsed and written again), and no choice makes text
//! unreadable: the colours of text and edges move until the ratios of WCAG 2.2 (1.4.3, 1.4.11) hold. By hand, because CSS
//! cannot do that: `color-mix()` mixes without a target ratio, and `contrast-color()` is not in all browsers.

use std::fmt::Write as _;

use crate::config::raw::RawColors;
use crate::config::{Problems, Spanned};
use crate::values::Color;

/// WCAG 2.2, 1.4.3: text against its background.
pub(super) const TEXT: f64 = 4.5;
/// WCAG 2.2, 1.4.11: the edge of something that can be used, against what surrounds it.
pub(super) const EDGE: f64 = 3.0;

const WHITE: Color = Color([0xff; 3]);
const BLACK: Color = Color([0; 3]);

impl Color {
    /// WCAG 2.2, "relative luminance".
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// WCAG 2.2, "contrast ratio": from 1 to 21.
    pub(super) fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// This with `percent` of `other` in it.
    fn mix(self, other: Self, percent: u16) -> Self {
        let channel = |index: usize| {
            let sum = u16::from(self.0[index]) * (100 - percent) + u16::from(other.0[index]) * percent;
            u8::try_from((sum + 50) / 100).unwrap_or(u8::MAX)
        };
        Self([channel(0), channel(1), channel(2)])
    }

    /// This, moved towards `end` by as little as makes it `ratio` against all of `others`.
    fn until(self, ratio: f64, others: &[Self], end: Self) -> Self {
        (0..=100)
            .step_by(4)
            .map(|percent| self.mix(end, percent))
            .find(|color| others.iter().all(|other| color.contrast(*other) >= ratio))
            .unwrap_or(end)
    }

    /// Black or white: what is better to read on this.
    fn opposite(self) -> Self {
        if self.contrast(WHITE) >= self.contrast(BLACK) {
            WHITE
        } else {
            BLACK
        }
    }
}

/// What does not follow from the operator's choice.
struct Base {
    background: Color,
    card: Color,
    text: Color,
    muted: Color,
    line: Color,
    edge: Color,
    accent: Color,
    danger: Color,
    good: Color,
}

const LIGHT: Base = Base {
    background: Color([0xf4, 0xf5, 0xf7]),
    card: WHITE,
    text: Color([0x1b, 0x1f, 0x24]),
    muted: Color([0x5a, 0x63, 0x6e]),
    line: Color([0xe3, 0xe6, 0xea]),
    edge: Color([0x86, 0x8f, 0x9b]),
    accent: Color([0x34, 0x56, 0xc4]),
    danger: Color([0xb4, 0x23, 0x18]),
    good: Color([0x1d, 0x6b, 0x43]),
};

const DARK: Base = Base {
    background: Color([0x10, 0x12, 0x15]),
    card: Color([0x1a, 0x1d, 0x22]),
    text: Color([0xec, 0xee, 0xf1]),
    muted: Color([0xa3, 0xab, 0xb6]),
    line: Color([0x2c, 0x31, 0x38]),
    edge: Color([0x6f, 0x79, 0x86]),
    accent: Color([0x9c, 0xb4, 0xff]),
    danger: Color([0xff, 0xa1, 0x98]),
    good: Color([0x86, 0xd6, 0xa8]),
};

/// All colours of a light or of a dark page, by the names that the style sheet knows them by.
#[derive(Clone, Debug)]
pub(super) struct Shade(Vec<(&'static str, Color)>);

/// What the style sheet begins with.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    pub(super) light: Shade,
    pub(super) dark: Shade,
}

impl Palette {
    /// The default colours with those of `raw` in their places.
    pub(super) fn compile(raw: &RawColors, problems: &mut Problems) -> Self {
        let color = |written: &Option<Spanned<Color>>| written.as_ref().map(|color| color.value);
        warn_if_faint(raw.accent.as_ref(), &LIGHT, BLACK, problems);
        warn_if_faint(raw.accent_dark.as_ref(), &DARK, WHITE, problems);
        let accent = color(&raw.accent);
        // One accent goes for dark pages too, where most colours are too dark without a change.
        let follows = accent.map(|accent| accent.until(6.0, &[DARK.card], WHITE));
        Self {
            light: Shade::of(&LIGHT, accent, color(&raw.background)),
            dark: Shade::of(
                &DARK,
                color(&raw.accent_dark).or(follows),
                color(&raw.background_dark),
            ),
        }
    }

    /// The custom properties.
    pub(super) fn css(&self) -> String {
        format!(
            ":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme:dark){{:root{{{}}}}}",
            self.light.properties(),
            self.dark.properties()
        )
    }
}

impl Shade {
    fn of(base: &Base, accent: Option<Color>, background: Option<Color>) -> Self {
        let accent = accent.unwrap_or(base.accent);
        let background = background.unwrap_or(base.background);
        let page_end = background.opposite();
        let card_end = base.card.opposite();
        let on_accent = [WHITE, Color([0x10, 0x13, 0x18]), BLACK]
            .into_iter()
            .find(|text| text.contrast(accent) >= TEXT);
        let on_accent = on_accent.unwrap_or(BLACK);
        let soft = base.card.mix(accent, 10);
        let danger_soft = base.card.mix(base.danger, 8);
        let good_soft = base.card.mix(base.good, 8);
        Self(vec![
            ("background", background),
            // Text on the page itself, outside the card.
            ("page-text", base.text.until(7.0, &[background], page_end)),
            ("page-muted", base.muted.until(TEXT, &[background], page_end)),
            ("card", base.card),
            ("text", base.text),
            ("muted", base.muted),
            ("line", base.line),
            ("edge", base.edge),
            ("accent", accent),
            // Away from the text on it, so that hovering never makes it harder to read.
            ("accent-hover", accent.mix(on_accent.opposite(), 12)),
            ("on-accent", on_accent),
            ("soft", soft),
            ("link", accent.until(TEXT, &[base.card, soft], card_end)),
            ("danger", base.danger),
            ("danger-soft", danger_soft),
            ("danger-line", base.card.mix(base.danger, 28)),
            ("good", base.good),
            ("good-soft", good_soft),
            ("good-line", base.card.mix(base.good, 28)),
        ])
    }

    /// The colour of that name.
    pub(super) fn color(&self, name: &str) -> Option<Color> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, color)| *color)
    }

    fn properties(&self) -> String {
        self.0.iter().fold(String::new(), |mut all, (name, color)| {
            // Writing to a string cannot fail.
            let _ = write!(all, "--{name}:{color};");
            all
        })
    }
}

fn warn_if_faint(raw: Option<&Spanned<Color>>, base: &Base, end: Color, problems: &mut Problems) {
    let Some(raw) = raw else { return };
    let accent = raw.value;
    let contrast = accent.contrast(base.card);
    if contrast >= EDGE {
        return;
    }
    let better = accent.until(EDGE, &[base.card], end);
    problems
        .warning(
            &raw.span,
            format!("buttons in `{accent}` hardly stand out from the page"),
        )
        .label(format!("contrast {contrast:.1}:1"))
        .hint(format!(
            "3:1 can be seen by most people; `{better}` has that (links are made readable in any case)"
        ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What stands on what in the style sheet, and the ratio it needs.
    const PAIRS: [(&str, &str, f64); 20] = [
        ("page-text", "background", TEXT),
        ("page-muted", "background", TEXT),
        ("text", "card", TEXT),
        ("muted", "card", TEXT),
        ("link", "card", TEXT),
        ("link", "soft", TEXT),
        ("text", "soft", TEXT),
        ("muted", "soft", TEXT),
        ("on-accent", "accent", TEXT),
        ("on-accent", "accent-hover", TEXT),
        ("danger", "card", TEXT),
        ("danger", "danger-soft", TEXT),
        ("text", "danger-soft", TEXT),
        ("good", "good-soft", TEXT),
        ("text", "good-soft", TEXT),
        ("edge", "card", EDGE),
        // The ring around what has the focus.
        ("link", "card", EDGE),
        ("page-text", "background", EDGE),
        ("danger", "danger-soft", EDGE),
        ("good", "good-soft", EDGE),
    ];

    fn compile(colors: [Option<&str>; 4]) -> (Palette, Problems) {
        let mut problems = Problems::new(Path::new("gateway.toml"), "[pages]\n");
        let [accent, accent_dark, background, background_dark] = colors.map(|color| {
            color.map(|value| Spanned {
                value: value.parse().unwrap(),
                span: 0..7,
            })
        });
        let raw = RawColors {
            accent,
            accent_dark,
            background,
            background_dark,
        };
        (Palette::compile(&raw, &mut problems), problems)
    }

    fn unreadable(shade: &Shade) -> Vec<String> {
        PAIRS
            .iter()
            .filter_map(|(front, back, needed)| {
                let contrast = shade.color(front).unwrap().contrast(shade.color(back).unwrap());
                (contrast < *needed).then(|| format!("{front} on {back}: {contrast:.2}"))
            })
            .collect()
    }

    #[test]
    fn the_contrast_is_that_of_the_recommendation() {
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 1e-9);
        assert!((BLACK.contrast(BLACK) - 1.0).abs() < 1e-9);
        // Widely published: the darkest grey that is too light on white, and the next one.
        assert!(Color([0x77; 3]).contrast(WHITE) < TEXT);
        assert!(Color([0x76; 3]).contrast(WHITE) >= TEXT);
    }

    #[test]
    fn the_default_palette_is_readable_light_and_dark() {
        let (palette, problems) = compile([None; 4]);
        let none: [String; 0] = [];
        assert_eq!(unreadable(&palette.light), none);
        assert_eq!(unreadable(&palette.dark), none);
        for shade in [&palette.light, &palette.dark] {
            assert!(
                shade
                    .color("accent")
                    .unwrap()
                    .contrast(shade.color("card").unwrap())
                    >= EDGE
            );
        }
        assert!(problems.errors().is_empty() && problems.warnings().is_empty());
    }

    #[test]
    fn text_stays_readable_whatever_colours_are_chosen() {
        let steps = [0_u8, 0x33, 0x66, 0x80, 0x99, 0xcc, 0xff];
        for red in steps {
            for green in steps {
                for blue in steps {
                    let color = Color([red, green, blue]).to_string();
                    let (palette, problems) = compile([Some(&color), None, Some(&color), Some(&color)]);
                    let none: [String; 0] = [];
                    assert_eq!(unreadable(&palette.light), none, "{color}");
                    assert_eq!(unreadable(&palette.dark), none, "{color}, dark");
                    assert!(problems.errors().is_empty());
                    let (palette, _) = compile([None, Some(&color), None, None]);
                    assert_eq!(unreadable(&palette.dark), none, "{color}, dark accent");
                }
            }
        }
    }

    #[test]
    fn an_accent_holds_on_dark_pages_too_where_it_is_made_lighter() {
        let (palette, _) = compile([Some("#2f6f4f"), None, None, None]);
        assert_eq!(palette.light.color("accent"), "#2f6f4f".parse().ok());
        let dark = palette.dark.color("accent").unwrap();
        assert!(
            dark.contrast(DARK.card) >= TEXT && dark.0[1] > dark.0[0],
            "{dark}"
        );
        let (palette, _) = compile([Some("#2f6f4f"), Some("#ABC"), None, None]);
        assert_eq!(palette.dark.color("accent"), "#aabbcc".parse().ok());
    }

    #[test]
    fn a_faint_accent_is_used_with_a_warning_that_names_a_better_one() {
        let (palette, problems) = compile([Some("#ffd400"), None, None, None]);
        assert_eq!(palette.light.color("accent"), "#ffd400".parse().ok());
        let [warning] = problems.warnings() else {
            panic!("{:?}", problems.warnings())
        };
        assert_eq!(
            warning.message,
            "buttons in `#ffd400` hardly stand out from the page"
        );
        assert_eq!(warning.label, "contrast 1.4:1");
        assert!(warning.hint.as_ref().unwrap().contains("`#"), "{warning:?}");
        assert_eq!(compile([None, Some("#222"), None, None]).1.warnings().len(), 1);
        assert!(
            compile([Some("#2f6f4f"), Some("#88ddaa"), None, None])
                .1
                .warnings()
                .is_empty()
        );
    }
}
