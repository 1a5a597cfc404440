//! Every order of steps, or random ways through what is larger.
use super::*;

/// What an exploration found. `first` is a shortest way to a state that breaks a property.
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) broken: usize,
    pub(super) first: Option<(Property, String)>,
    pub(super) whole: bool,
}

impl Found {
    pub(super) fn property(&self) -> Option<Property> {
        self.first.as_ref().map(|(property, _)| *property)
    }
}

/// So many states an exploration visits before it ends without a claim to be whole.
pub(super) const STATES_MAX: usize = 400_000;

/// Explores all states breadth first; stops at the first broken one unless `whole`.
pub(super) fn explore(scenario: &Scenario, rules: Rules, watched: &[Property], whole: bool) -> Found {
    let model = Model::new(scenario, rules);
    let mut seen = HashSet::from([model.start()]);
    let mut queue = vec![(model.start(), 0, Step::Start)];
    let mut found = Found { states: 0, broken: 0, first: None, whole: true };
    while let Some((state, ..)) = queue.get(found.states).cloned() {
        if let Some(property) = model.broken(&state, watched) {
            found.broken += 1;
            found.first.get_or_insert_with(|| (property, model.story(&steps_to(&queue, found.states))));
            if !whole {
                return found;
            }
        }
        for step in model.steps(&state) {
            let next = model.normal(&model.apply(&state, step));
            if seen.insert(next.clone()) {
                queue.push((next, found.states, step));
            }
        }
        found.states += 1;
        if found.states == STATES_MAX {
            return Found { whole: false, ..found };
        }
    }
    found
}

pub(super) fn steps_to(queue: &[(State, usize, Step)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while at > 0 {
        steps.push(queue[at].2);
        at = queue[at].1;
    }
    steps.reverse();
    steps
}

/// Goes `walks` random ways of at most `steps_max` steps from the start. One seed, one run.
pub(super) fn wander(scenario: &Scenario, rules: Rules, watched: &[Property], walks: usize, mut seed: u64) -> Found {
    const STEPS_MAX: usize = 60;
    let model = Model::new(scenario, rules);
    let mut found = Found { states: 0, broken: 0, first: None, whole: false };
    for _ in 0..walks {
        let mut state = model.start();
        let mut taken = Vec::new();
        while taken.len() < STEPS_MAX && found.first.is_none() {
            found.states += 1;
            if let Some(property) = model.broken(&state, watched) {
                found.broken += 1;
                found.first = Some((property, model.story(&taken)));
            }
            let steps = model.steps(&state);
            let Some(step) = steps.get(draw(&mut seed, steps.len())) else { break };
            taken.push(*step);
            state = model.normal(&model.apply(&state, *step));
        }
    }
    found
}

/// A number below `bound`, or 0 (xorshift64).
pub(super) fn draw(seed: &mut u64, bound: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed % bound.max(1) as u64) as usize
}
