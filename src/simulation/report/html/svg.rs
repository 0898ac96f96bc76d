//! The few shapes that the page's pictures are made of, as text. Everything that comes in is escaped;
//! colours are classes of the page's style sheet.

use std::fmt::{Display, Write};

use super::super::words::{duration, printable};
use crate::simulation::history::AtUs;

/// Foreign text in HTML or SVG, between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A length with at most one decimal.
fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// About how wide a text is at the pictures' size of letters.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.3
}

/// A picture that grows.
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    pub(crate) fn new() -> Self {
        Self { body: String::new() }
    }

    fn push(&mut self, text: impl Display) {
        // Writing into a string does not fail.
        let _ = write!(self.body, "{text}");
    }

    /// A rectangle. `title` is shown where the pointer rests on it.
    pub(crate) fn rect(
        &mut self,
        (x, y): (f64, f64),
        (w, h): (f64, f64),
        class: &str,
        title: &str,
    ) {
        let (x, y, w, h) = (n(x), n(y), n(w.max(0.5)), n(h.max(0.5)));
        let shape = format!(r#"rect x="{x}" y="{y}" width="{w}" height="{h}" class="{class}""#);
        self.shape(&shape, "rect", title);
    }

    /// The same, more or less opaque.
    pub(crate) fn heat(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), share: f64, title: &str) {
        let (x, y, w, h, o) = (n(x), n(y), n(w.max(0.5)), n(h), share.clamp(0.0, 1.0));
        let shape = format!(
            r#"rect x="{x}" y="{y}" width="{w}" height="{h}" class="heat" fill-opacity="{o:.2}""#
        );
        self.shape(&shape, "rect", title);
    }

    /// A dot.
    pub(crate) fn dot(&mut self, (x, y): (f64, f64), r: f64, class: &str, title: &str) {
        let (x, y, r) = (n(x), n(y), n(r));
        let shape = format!(r#"circle cx="{x}" cy="{y}" r="{r}" class="{class}""#);
        self.shape(&shape, "circle", title);
    }

    fn shape(&mut self, shape: &str, name: &str, title: &str) {
        if title.is_empty() {
            self.push(format_args!("<{shape}/>"));
        } else {
            self.push(format_args!("<{shape}><title>{}</title></{name}>", escape(title)));
        }
    }

    /// A line.
    pub(crate) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let (x1, y1, x2, y2) = (n(x1), n(y1), n(x2), n(y2));
        self.push(format_args!(
            r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{class}"/>"#
        ));
    }

    /// A way through points; `close` goes on with what follows the last one, in SVG's own words.
    pub(crate) fn path(&mut self, points: &[(f64, f64)], close: &str, class: &str) {
        if points.is_empty() {
            return;
        }
        let mut d = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let letter = if i == 0 { "M" } else { " L" };
            d += &format!("{letter}{} {}", n(*x), n(*y));
        }
        self.push(format_args!(r#"<path d="{d}{close}" class="{class}"/>"#));
    }

    /// A bent arrow.
    pub(crate) fn arrow(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let bend = (x2 - x1) / 2.0;
        let (c1, c2) = (n(x1 + bend), n(x2 - bend));
        let (x1, y1, x2, y2) = (n(x1), n(y1), n(x2), n(y2));
        self.push(format_args!(
            r#"<path d="M{x1} {y1} C{c1} {y1} {c2} {y2} {x2} {y2}" class="arrow {class}" marker-end="url(#{class}-tip)"/>"#
        ));
    }

    /// Text; `class` may hold `end` or `middle` for where it stands.
    pub(crate) fn text(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let (x, y) = (n(x), n(y));
        self.push(format_args!(r#"<text x="{x}" y="{y}" class="{class}">{}</text>"#, escape(text)));
    }

    /// Text that tells more where the pointer rests on it.
    pub(crate) fn titled(&mut self, (x, y): (f64, f64), class: &str, text: &str, title: &str) {
        let (x, y, text, title) = (n(x), n(y), escape(text), escape(title));
        self.push(format_args!(
            r#"<text x="{x}" y="{y}" class="{class}">{text}<title>{title}</title></text>"#
        ));
    }

    /// The picture; `label` is what it shows, for who does not see it.
    pub(crate) fn finish(self, width: f64, height: f64, label: &str) -> String {
        let (w, h, label) = (n(width), n(height), escape(label));
        let body = self.body;
        format!(
            r#"<svg viewBox="0 0 {w} {h}" role="img" aria-label="{label}" style="min-width:{}px">{body}</svg>"#,
            n((width * 0.75).max(640.0))
        )
    }
}

/// The time axis that pictures share, so that they can be compared by looking down.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    /// When the run ended.
    pub(crate) end_us: AtUs,
}

impl Axis {
    /// Of the whole picture.
    pub(crate) const WIDTH: f64 = 1120.0;
    /// Where time begins.
    pub(crate) const LEFT: f64 = 136.0;
    /// Where it ends.
    pub(crate) const RIGHT: f64 = Self::WIDTH - 60.0;

    pub(crate) fn x(self, at_us: AtUs) -> f64 {
        let share = at_us.min(self.end_us) as f64 / self.end_us.max(1) as f64;
        Self::LEFT + share * (Self::RIGHT - Self::LEFT)
    }

    /// The width of a span, so that it can be seen.
    pub(crate) fn span(self, from_us: AtUs, to_us: AtUs) -> f64 {
        (self.x(to_us) - self.x(from_us)).max(1.5)
    }

    /// Lines at round times from `top` to `bottom`, with their times below.
    pub(crate) fn draw(self, svg: &mut Svg, top: f64, bottom: f64) {
        for at_us in self.ticks() {
            let x = self.x(at_us);
            svg.line((x, top), (x, bottom), "grid");
            let words = if at_us == 0 { "0".to_owned() } else { tick_words(at_us) };
            svg.text((x, bottom + 14.0), "tick middle", &words);
        }
    }

    fn ticks(self) -> Vec<AtUs> {
        const STEPS_S: [f64; 14] =
            [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
        let enough = |step: &&f64| self.end_us as f64 / 1e6 / **step <= 13.0;
        let step_s = STEPS_S.iter().find(enough).copied();
        let step = (step_s.unwrap_or(self.end_us as f64 / 1e7).max(0.1) * 1e6) as u64;
        (0..).map(|i| i * step).take_while(|at| *at <= self.end_us).take(40).collect()
    }

    /// The picture with the line that follows the pointer.
    pub(crate) fn finish(self, svg: Svg, height: f64, label: &str) -> String {
        let cursor = format!(
            r#"<g class="cursor"><line y1="0" y2="{}" class="cursor-line"/><text y="10" class="tick middle"></text></g>"#,
            n(height)
        );
        let picture = Svg { body: svg.body + &cursor }.finish(Self::WIDTH, height, label);
        picture.replacen(
            "<svg ",
            &format!(
                r#"<svg class="time" data-left="{}" data-right="{}" data-end="{}" "#,
                Self::LEFT,
                Self::RIGHT,
                self.end_us
            ),
            1,
        )
    }
}

fn tick_words(at_us: AtUs) -> String {
    if at_us.is_multiple_of(1_000_000) && at_us < 600_000_000 {
        format!("{} s", at_us / 1_000_000)
    } else {
        duration(at_us)
    }
}

/// At most `most` points of a curve: of each stretch the one with the greatest value.
pub(crate) fn thinned(points: &[(AtUs, f64)], most: usize) -> Vec<(AtUs, f64)> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    let greatest =
        |chunk: &[(AtUs, f64)]| chunk.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
    points.chunks(size).filter_map(greatest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_no_markup() {
        assert_eq!(
            escape("<script>alert('1' & \"2\")</script>\u{0}"),
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;\\u{0}"
        );
    }

    #[test]
    fn a_thinned_curve_keeps_its_peaks() {
        let mut points: Vec<_> = (0..10_000).map(|i| (i, 0.0)).collect();
        points[7_777].1 = 5.0;
        let thinned = thinned(&points, 600);
        assert!(thinned.len() <= 600 && thinned.contains(&(7_777, 5.0)));
    }

    #[test]
    fn an_axis_has_a_few_round_times_whatever_the_length() {
        for end_us in [0, 1, 90_000, 2_000_000, 75_000_000, 3_600_000_000, 700_000_000_000_000] {
            let ticks = Axis { end_us }.ticks();
            assert!((1..=40).contains(&ticks.len()), "{end_us}: {}", ticks.len());
        }
        assert_eq!(Axis { end_us: 75_000_000 }.ticks()[1], 10_000_000);
    }
}
