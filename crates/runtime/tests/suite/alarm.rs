//! The alarm beside an answer: through files, and what is refused.

use crate::files::with_section;
use crate::support::*;
use ckks::{Level, Parameters};
use polyveil_runtime::*;

fn largest(sums: &[f64]) -> f64 {
    sums.iter().copied().fold(0.0, f64::max)
}

#[test]
fn an_alarm_goes_with_the_answer_and_is_read_by_all_interpreters() {
    let f = files(watched());
    let x = tensor();
    let want = largest(&watched_truth(&x));
    let (values, sums) = f.plan.simulate_with_alarm(&x, None).expect("runs");
    assert!((largest(&sums) - want).abs() < 1e-4, "{sums:?} {want}");
    close(&values, &levelled_truth(&x), 1e-6);
    let answer = f.server().answer(&f.input, &mut ()).expect("runs");
    let judged = f.client.read_doubtful(&answer[..], "x").expect("silent");
    let reads = judged.alarm.expect("the plan has one");
    assert!((reads.measured - want).abs() < 1e-3, "{reads} {want}");
    assert_eq!((reads.test, reads.allowed), (AnswerTest::Alarm, 40.0));
    close(&judged.values, &levelled_truth(&x), 1e-3);
    // it is no part of the answer's own bound, nor of what a plan without it gives
    let without = plan(levelled());
    assert_eq!(f.plan.answer_bounds(), without.answer_bounds());
    let found = f.client.measures(&{
        let state = f.server().read_input(&f.input[..], "x").expect("reads");
        f.server().run(state, &mut ()).expect("runs")
    });
    assert_eq!(found.expect("its own").len(), 6);
}

#[test]
fn beyond_the_threshold_nothing_of_the_answer_is_shown() {
    let mut p = watched();
    let most = 0.5 * largest(&watched_truth(&tensor()));
    let alarm = p.description.alarm.as_mut().expect("one");
    alarm.threshold = most;
    let f = files(p);
    let answer = f.server().answer(&f.input, &mut ()).expect("runs");
    let e = f.client.read_answer(&answer[..], "x").expect_err("refused");
    let message = e.to_string();
    for word in ["cannot be right", "left its interval", "the alarm reads"] {
        assert!(message.contains(word), "{word:?} is missing in {message}");
    }
    let Error::Answer { why, .. } = e else {
        panic!("{message}")
    };
    assert_eq!(
        (why.test, why.allowed, why.input),
        (AnswerTest::Alarm, most, None)
    );
    assert!(why.measured > 1.9 * most);
    assert!(f.client.read_doubtful(&answer[..], "x").is_err());
}

#[test]
fn an_alarm_is_not_passed_over_and_not_made_up() {
    let f = files(watched());
    let answer = f.server().answer(&f.input, &mut ()).expect("runs");
    let refused = |bytes: &[u8], word: &str| {
        let e = f.client.read_answer(bytes, "x").expect_err(word);
        let message = e.to_string();
        assert!(
            matches!(e, Error::File { .. }) && message.contains(word),
            "{message}"
        );
    };
    // one that is missing, of another kind, too short, twice
    let server = files(levelled());
    let bare = server
        .server()
        .answer(&server.input, &mut ())
        .expect("runs");
    assert!(f.client.read_answer(&bare[..], "x").is_err());
    refused(&with_section(&answer, *b"alrm", &[1, 0, 0, 0]), "section");
    // what a plan does not have
    let mut sums = vec![0u8; 100];
    sums[0] = 1;
    let made_up = with_section(&bare, *b"alrm", &sums);
    let message = server.client.read_answer(&made_up[..], "x");
    let message = message.expect_err("made up").to_string();
    assert!(message.contains("does not have"), "{message}");
    // a ciphertext less
    let state = f.server().read_input(&f.input[..], "x").expect("reads");
    let mut answer = f.server().run(state, &mut ()).expect("runs");
    answer.ciphertexts.pop();
    assert!(matches!(
        f.client.decrypt(&answer),
        Err(Error::Input { .. })
    ));
}

#[test]
fn an_alarm_of_several_ciphertexts_is_read_whole() {
    let mut p = watched();
    let slots = SLOTS;
    let owners = Some(Owners::new(1, vec![0]));
    let alarm = p.description.alarm.as_mut().expect("one");
    // what is not folded yet
    alarm.more.push(Sums {
        register: 8,
        slots,
        owners,
    });
    alarm.first.owners = alarm.more[0].owners.clone();
    let f = files(p);
    let want = largest(&watched_truth(&tensor()));
    let answer = f.server().answer(&f.input, &mut ()).expect("runs");
    let judged = f.client.read_doubtful(&answer[..], "x").expect("silent");
    let reads = judged.alarm.expect("the plan has one").measured;
    assert!((reads - want).abs() < 1e-3, "{reads} {want}");
    // plans and client files keep it
    let bytes = f.plan.plan().write(Vec::new(), "x").expect("writes");
    let read = VerifiedPlan::read(&bytes[..], "x").expect("reads");
    assert_eq!(read.plan(), f.plan.plan());
    let file = client_file(&f.plan);
    let bytes = file.write(Vec::new(), "x").expect("writes");
    assert_eq!(ClientFile::read(&bytes[..], "x").expect("reads"), file);
    // one of them is missing
    let state = f.server().read_input(&f.input[..], "x").expect("reads");
    let mut answer = f.server().run(state, &mut ()).expect("runs");
    answer.ciphertexts.pop();
    assert!(f.client.decrypt(&answer).is_err());
    let bytes = f.server().write_answer(&answer, Vec::new(), "x");
    let e = f.client.read_answer(&bytes.expect("writes")[..], "x");
    let message = e.expect_err("a section less").to_string();
    assert!(message.contains("`alrm`: it is missing"), "{message}");
    // and one that nobody wrote
    let mut p = f.plan.plan().clone();
    p.description.alarm.as_mut().expect("one").more[0].register = 77;
    refused(p, "register 77 does not end");
}

#[test]
fn alarms_that_do_not_hold_together_are_refused() {
    let refused = |word: &str, change: &dyn Fn(&mut Plan)| {
        let mut p = watched();
        change(&mut p);
        let message = VerifiedPlan::new(p).expect_err(word).to_string();
        assert!(message.contains(word), "{word:?} is missing in {message}");
    };
    let alarm =
        |f: fn(&mut Alarm)| move |p: &mut Plan| f(p.description.alarm.as_mut().expect("one"));
    refused("a power of two", &alarm(|a| a.first.slots = 3));
    refused("exist", &alarm(|a| a.level = 9));
    refused("infinite", &alarm(|a| a.threshold = f64::NAN));
    refused("infinite", &alarm(|a| a.reach = 0.0));
    refused("does not end", &alarm(|a| a.level = 1));
    refused("does not end", &alarm(|a| a.first.slots = 2));
    refused("does not end", &alarm(|a| a.first.register = 77));
    let squares = |f: fn(&mut Vec<(f64, Register)>, &mut usize)| {
        move |p: &mut Plan| {
            if let Operation::Squares { inputs, level, .. } = &mut p.steps[1].operation {
                f(inputs, level);
            }
        }
    };
    refused("squares", &squares(|inputs, _| inputs.clear()));
    refused(
        "squares",
        &squares(|inputs, _| *inputs = vec![(1.0, 1); 1000]),
    );
    refused("finite", &squares(|inputs, _| inputs[0].0 = f64::INFINITY));
    // a factor needs a level
    refused("level", &squares(|_, level| *level = 3));
    refused("level", &squares(|_, level| *level = 0));
    refused("apart", &|p: &mut Plan| {
        if let Operation::Fold { slots, .. } = &mut p.steps[4].operation {
            *slots = 3;
        }
    });
    // plans and client files keep it
    let p = plan(watched());
    let bytes = p.plan().write(Vec::new(), "x").expect("writes");
    assert_eq!(
        VerifiedPlan::read(&bytes[..], "x").expect("reads").plan(),
        p.plan()
    );
    let mut spec = p.client_spec();
    spec.description.alarm.as_mut().expect("one").threshold = f64::INFINITY;
    assert!(ClientFile::new(spec, [].into()).is_err());
}

/// Squares of the first layer's values, below the levels for slots down to the lowest.
fn watched_below() -> Plan {
    let mut p = bootstrapped();
    let step = |operation| Step {
        operation,
        ..p.steps[0].clone()
    };
    let squares = |level: usize, factor, input, output| Operation::Squares {
        inputs: vec![(factor, input)],
        sum: None,
        output,
        level,
    };
    let (input, output, slots, level) = (8, 9, 4, 0);
    let added = [
        squares(3, 0.15, 1, 6),
        squares(2, 1.0, 6, 7),
        squares(1, 1.0, 7, 8),
        Operation::Fold {
            input,
            output,
            slots,
            level,
        },
    ]
    .map(step);
    p.steps.splice(1..1, added);
    p.description.alarm = watched().description.alarm;
    p
}

#[test]
fn squares_below_the_levels_for_slots_come_with_what_their_scales_differ_by() {
    let f = files(watched_below());
    let set = Parameters::new(f.plan.plan().parameters.clone()).expect("valid");
    let x: Vec<f64> = tensor().iter().map(|v| v / 2.0).collect();
    let halves: Vec<f64> = x.iter().map(|v| v / 2.0).collect();
    let mut t: Vec<f64> = circulant(FIRST, &halves);
    t.iter_mut().for_each(|t| *t = 0.15 * (*t + 0.125));
    for level in [3, 2, 1] {
        let (here, below) = (Level::new(level), Level::new(level - 1));
        let gain = set.scale(here).powi(2) / set.modulus(here) / set.scale(below);
        assert!(gain > 4.0, "{gain}");
        t.iter_mut().for_each(|t| *t = gain * *t * *t);
    }
    let sums: Vec<f64> = (0..4).map(|j| t.iter().skip(j).step_by(4).sum()).collect();
    let want = largest(&sums);
    assert!((0.5..40.0).contains(&want), "{want}");
    let (_, sums) = f.plan.simulate_with_alarm(&x, None).expect("runs");
    assert!(
        (largest(&sums) - want).abs() < 1e-6 * want,
        "{sums:?} {want}"
    );
    let answer = f.server().answer(&f.input, &mut ()).expect("runs");
    let judged = f.client.read_doubtful(&answer[..], "x").expect("silent");
    let reads = judged.alarm.expect("the plan has one").measured;
    assert!((reads - want).abs() < 1e-3 * want, "{reads} {want}");
    // nothing else takes them, whatever their level
    let mut p = watched_below();
    let (left, right, output) = (8, 8, 10);
    p.steps[4].operation = Operation::Add {
        left,
        right,
        output,
    };
    let message = VerifiedPlan::new(p).expect_err("a sum").to_string();
    assert!(message.contains("a sum of the alarm's"), "{message}");
}

fn refused(plan: Plan, word: &str) {
    let message = VerifiedPlan::new(plan).expect_err(word).to_string();
    assert!(message.contains(word), "{word:?} is missing in {message}");
}

#[test]
fn folded_sums_of_an_alarm_are_not_read_as_coefficients() {
    let mut p = watched_below();
    p.steps.push(Step {
        operation: Operation::HalfBootstrap {
            input: 9,
            outputs: vec![10],
            slots: SLOTS,
            target: 7,
            gain: 1,
        },
        ..p.steps[0].clone()
    });
    refused(p, "register 9 is a sum of the alarm's");
}

#[test]
fn sums_of_an_alarm_below_the_levels_for_slots_are_no_answer() {
    for register in [8, 9] {
        let mut p = watched_below();
        p.output = port("y", register, 0, 1.0);
        refused(p, &format!("register {register} is a sum of the alarm's"));
    }
}

#[test]
fn what_lies_in_coefficients_is_no_alarm() {
    let mut p = watched_below();
    p.steps.clear();
    p.input = port("x", 0, 0, 2.0);
    p.output = port("y", 0, 0, 2.0);
    VerifiedPlan::new(Plan {
        description: bootstrapped().description,
        ..p.clone()
    })
    .expect("without an alarm");
    let alarm = p.description.alarm.as_mut().expect("one");
    (alarm.first.register, alarm.first.slots) = (0, SLOTS);
    refused(p, "register 0 is not in slots");
}
