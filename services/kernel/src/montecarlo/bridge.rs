//! The Brownian bridge: fixes a path's end first, then the middle, then the quarters, so that the first coordinates of
//! a quasi-random point decide most of what a path does (Caflisch and Moskowitz 1995).

use super::normal::BLOCK;

/// One point of a path, from those around it that are known already. Times count steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: usize,
    /// Known neighbours; before the first step the path is at 0.
    before: Option<usize>,
    after: Option<usize>,
    weight_before: f64,
    weight_after: f64,
    deviation: f64,
}

/// The order in which a path of unit steps is fixed.
#[derive(Clone, Debug, PartialEq)]
pub struct Bridge(Vec<Point>);

impl Bridge {
    /// The bridge over `steps` equal steps.
    pub fn new(steps: usize) -> Self {
        let mut points = Vec::with_capacity(steps);
        if steps == 0 {
            return Self(points);
        }
        let end = Point {
            at: steps - 1,
            before: None,
            after: None,
            weight_before: 0.0,
            weight_after: 0.0,
            deviation: (steps as f64).sqrt(),
        };
        points.push(end);
        // Gaps between known times, where 0 is the start; the widest were put in first.
        let mut gaps = std::collections::VecDeque::from([(0, steps)]);
        while let Some((left, right)) = gaps.pop_front() {
            if right - left < 2 {
                continue;
            }
            let middle = left.midpoint(right);
            let (near, far, whole) = ((middle - left) as f64, (right - middle) as f64, (right - left) as f64);
            points.push(Point {
                at: middle - 1,
                before: left.checked_sub(1),
                after: Some(right - 1),
                weight_before: far / whole,
                weight_after: near / whole,
                deviation: (near * far / whole).sqrt(),
            });
            gaps.extend([(left, middle), (middle, right)]);
        }
        Self(points)
    }

    /// Fills `levels`, one row of a block for each step, from one draw of normals for each point, and leaves in it what
    /// the path changes by in each step.
    pub fn fill(&self, levels: &mut [[f64; BLOCK]], mut draw: impl FnMut(usize, &mut [f64; BLOCK])) {
        let mut normals = [0.0; BLOCK];
        for (number, point) in self.0.iter().enumerate() {
            draw(number, &mut normals);
            normals.iter_mut().for_each(|normal| *normal *= point.deviation);
            for (known, weight) in [(point.before, point.weight_before), (point.after, point.weight_after)] {
                if let Some(known) = known {
                    let known = &levels[known];
                    for (normal, known) in normals.iter_mut().zip(known) {
                        *normal += weight * known;
                    }
                }
            }
            levels[point.at] = normals;
        }
        for step in (1..levels.len()).rev() {
            let (before, rest) = levels.split_at_mut(step);
            for (level, before) in rest[0].iter_mut().zip(&before[step - 1]) {
                *level -= before;
            }
        }
    }
}
