//! Explores every order of steps, or random walks where that would be too large.
use super::*;

/// The result of an exploration. `first` is a shortest way to a state that breaks a property.
pub(super) struct Exploration {
    pub(super) states: usize,
    pub(super) broken: usize,
    pub(super) first: Option<(Property, String)>,
    pub(super) whole: bool,
}

impl Exploration {
    pub(super) fn property(&self) -> Option<Property> {
        self.first.as_ref().map(|(property, _)| *property)
    }
}

/// An exploration stops after this many states and then does not claim to be whole.
pub(super) const STATES_MAX: usize = 400_000;

/// Explores all states breadth first; stops at the first broken state unless `whole`.
pub(super) fn explore(scenario: &Scenario, rules: RuleSet, watched: &[Property], whole: bool) -> Exploration {
    let model = CutModel::new(scenario, rules);
    let mut seen = HashSet::from([model.start()]);
    let mut queue = vec![(model.start(), 0, ModelStep::Start)];
    let mut found = Exploration { states: 0, broken: 0, first: None, whole: true };
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
            return Exploration { whole: false, ..found };
        }
    }
    found
}

pub(super) fn steps_to(queue: &[(ModelState, usize, ModelStep)], mut at: usize) -> Vec<ModelStep> {
    let mut steps = Vec::new();
    while at > 0 {
        steps.push(queue[at].2);
        at = queue[at].1;
    }
    steps.reverse();
    steps
}

/// Takes `walks` random walks of at most `STEPS_MAX` steps from the start; a seed repeats them.
pub(super) fn wander(
    scenario: &Scenario,
    rules: RuleSet,
    watched: &[Property],
    walks: usize,
    mut seed: u64,
) -> Exploration {
    const STEPS_MAX: usize = 60;
    let model = CutModel::new(scenario, rules);
    let mut found = Exploration { states: 0, broken: 0, first: None, whole: false };
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
