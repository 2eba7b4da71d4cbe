"""Of which tests `make test` runs some of the cases, and `make test-slow` the others.

`make test` has to end within 12 minutes on two cores. These tests have many cases that go through
the same code, and each of them compiles programs; together they took a third of the time. Of each
every n-th case runs in `make test`, beginning with the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

#: {file below `tests`: {test: n}}.
EVERY_NTH: dict[str, dict[str, int]] = {
    "checkpoint/ranks/test_ranks.py": {
        "test_transforms_as_mindspore_does": 3,
    },
    "cli/test_launch.py": {
        "TestFailures::test_who_failed_and_why": 3,
    },
    "initializer/test_initializer.py": {
        "test_float64_has_more_digits_of_the_same_numbers": 4,
        "test_golden_dtypes": 3,
        "test_golden_stats": 4,
    },
    "initializer/test_of_jax.py": {
        "test_numbers_are_those_of_the_function_under_a_key_of_the_recipe": 3,
    },
    "nn/test_cell.py": {
        "test_to_float_computes_in_another_type": 3,
    },
    "nn/test_golden_layers.py": {
        "test_layer": 5,
        "test_layer_operator_by_operator": 3,
    },
    "nn/test_golden_losses.py": {
        "test_loss": 4,
    },
    "nn/test_inner.py": {
        "test_a_layer_with_strategies": 3,
    },
    "nn/test_invariants.py": {
        "test_layer": 5,
        "test_operator_by_operator_is_the_same": 3,
    },
    "nn/test_kv_cache.py": {
        "test_queries_see_the_past_of_their_row": 4,
    },
    "nn/test_probability.py": {
        "test_numbers_are_scipys": 5,
        "test_samples_follow_the_distribution": 3,
    },
    "nn/test_recurrent.py": {
        "test_lengths_are_as_truncated_sequences": 4,
    },
    "nn/test_stack.py": {
        "test_a_scan_computes_and_writes_what_separate_layers_do": 3,
    },
    "nn/test_starts.py": {
        "test_distribution": 3,
    },
    "ops/test_bessel.py": {
        "test_values_and_gradients": 4,
    },
    "ops/test_borders.py": {
        "test_the_gradient_at_a_kink_is_mindspores": 3,
    },
    "ops/test_changed_copies.py": {
        "test_values": 3,
    },
    "ops/test_fourier.py": {
        "test_cosine_transforms": 4,
        "test_transforms": 3,
    },
    "ops/test_fractional_pooling.py": {
        "test_each_window_has_its_largest_and_its_mean": 4,
    },
    "ops/test_more_random.py": {
        "test_distributions": 3,
    },
    "ops/test_operators.py": {
        "test_eager_equals_numpy": 3,
        "test_gradient": 4,
    },
    "ops/test_pooling.py": {
        "test_windows_that_stand_side_by_side": 3,
    },
    "ops/test_random_ops.py": {
        "test_moments": 3,
    },
    "ops/test_scattering.py": {
        "test_into_a_parameter": 3,
    },
    "optim/test_from_optax.py": {
        "test_a_line_search_tries_values_of_the_loss": 3,
        "test_the_same_as_optax": 4,
    },
    "optim/test_frozen.py": {
        "test_a_frozen_parameter_and_its_state_stay": 5,
    },
    "optim/test_golden.py": {
        "test_one_trace_for_all_steps": 3,
        "test_state_ends_as_recorded": 2,
        "test_state_has_the_recorded_names": 4,
        "test_steps_are_the_recorded_ones": 4,
    },
    "optim/test_invariants.py": {
        "test_alone_and_eagerly_it_does_the_same": 4,
        "test_double_precision_beside_single": 3,
    },
    "parallel/communication/test_collectives.py": {
        "test_values_and_gradients": 3,
    },
    "parallel/modes/test_data_parallel.py": {
        "test_the_same_as_on_one_device": 4,
    },
    "parallel/modes/test_over_devices.py": {
        "test_the_same_as_on_one_device": 5,
    },
    "parallel/modes/test_semi_auto.py": {
        "TestTheSameAsOnOneDevice::test_mlp": 4,
    },
    "parallel/operators/test_axis_rules.py": {
        "test_strategies_of_mindspore": 5,
        "test_the_strategy_of_an_operator_without_tensors_is_that_of_its_result": 3,
    },
    "parallel/operators/test_random_strategies.py": {
        "test_drawn_numbers": 4,
    },
    "parallel/operators/test_sent.py": {
        "test_each_operator_sends_the_sums_of_its_rule": 4,
    },
    "parallel/partitioning/test_rules.py": {
        "test_a_sharding_gives_the_numbers_of_one_device": 4,
        "test_gradients_of_an_operator_with_a_strategy": 3,
    },
    "parallel/planning/test_ahead.py": {
        "test_the_parallel_modes": 3,
    },
    "parallel/search/test_rules.py": {
        "test_each_strategy_sends_what_its_rule_says": 3,
    },
    "parallel/search/test_search.py": {
        "test_a_plan_runs_like_one_device_and_sends_what_is_predicted": 4,
        "test_a_search_finds_what_trying_all_finds": 3,
    },
    "programs/test_branch_effects.py": {
        "test_a_change_that_would_happen_in_any_case": 4,
        "test_statements_in_a_branch": 3,
    },
    "programs/test_control_flow.py": {
        "test_values_and_parameters": 3,
    },
    "programs/test_forks.py": {
        "test_a_fork": 3,
    },
    "programs/test_jax_settings.py": {
        "test_a_mesh_of_the_user_does_not_meet_the_devices_of_a_mode": 3,
        "test_a_setting_that_changes_programs_makes_another": 3,
    },
    "programs/test_jax_trees.py": {
        "test_trees_that_meet": 3,
    },
    "programs/test_outputs.py": {
        "test_every_output_is_a_tensor_of_a_plain_array": 4,
    },
    "programs/test_pools.py": {
        "TestBetweenSteps::test_several_written_from_outside": 4,
        "TestBetweenSteps::test_written_from_outside": 3,
        "TestBetweenSteps::test_written_inside_a_program": 4,
        "test_the_same_numbers_as_without": 5,
    },
    "programs/test_python_control_flow.py": {
        "test_other_places": 4,
        "test_programs_do_what_python_does": 3,
    },
    "programs/test_retraces.py": {
        "test_a_change_between_steps": 4,
    },
    "programs/test_uncompiled.py": {
        "test_methods_and_indexes": 4,
    },
    "properties/test_recipes.py": {
        "test_a_slice_alone_is_the_slice_of_the_full_array": 5,
        "test_arrays_that_do_not_fit_into_a_table_are_the_same": 4,
        "test_large_and_odd_slices": 4,
        "test_large_arrays_over_any_number_of_devices_are_the_same": 4,
        "test_odd_offsets_in_a_large_array": 4,
        "test_over_any_number_of_devices_is_the_same": 4,
    },
    "properties/test_tensor.py": {
        "test_operators": 5,
    },
    "ps/client/test_row_gradients.py": {
        "test_as_in_one_process": 3,
    },
    "ps/integration/test_hybrid.py": {
        "test_as_in_data_parallel_without_servers": 3,
    },
    "ps/integration/test_placement.py": {
        "test_the_same_losses_as_without_servers": 3,
    },
    "ps/integration/test_trained_before.py": {
        "test_the_first_thing_that_is_read": 3,
    },
    "ps/resizing/test_resize.py": {
        "test_the_run_goes_on": 4,
    },
    "ps/server/test_standby.py": {
        "test_killed_anywhere_ends_with_the_same_bits": 4,
    },
    "ps/server/test_store.py": {
        "test_rows_are_those_of_the_full_table": 3,
        "test_server_optimizers_are_the_local_ones": 3,
    },
    "sampling/test_random_bits.py": {
        "test_batteries_are_given_the_words_of_recipes": 3,
        "test_neighbours_have_nothing_in_common": 3,
    },
    "sampling/test_recipe.py": {
        "test_sharded_is_the_same": 3,
    },
    "tensor/test_method_table.py": {
        "test_of_other_arguments": 4,
    },
    "test_types_of_the_interface.py": {
        "test_operators_give_what_they_are_declared_to": 7,
    },
    "tensor/test_tensor.py": {
        "test_64_bits_are_kept": 4,
        "test_indexing_and_assignment_against_numpy": 3,
        "test_method_against_numpy": 3,
        "test_whole_quotients": 4,
    },
    "test_behaviour.py": {
        "test_record": 3,
    },
    "test_mindspore_generated.py": {
        "test_classes": 3,
    },
    "test_mindspore_gradients.py": {
        "test_of_an_operator": 3,
        "test_of_one_input": 3,
    },
    "test_recorded_names.py": {
        "test_recorded": 9,
    },
    "train/test_cells.py": {
        "test_a_subclass_keeps_to_the_parallel_settings": 4,
        "test_a_subclass_makes_the_same_steps": 3,
    },
    "train/test_model.py": {
        "test_mixed_precision_and_loss_scales_learn_alike": 3,
    },
}


def mark_the_others(items: Iterable[pytest.Item]) -> None:
    """Mark as slow what is left out of `make test`."""
    seen: Counter[tuple[str, str]] = Counter()
    for item in items:
        file = item.path.relative_to(TESTS).as_posix()
        test = item.nodeid.partition("::")[2].partition("[")[0]
        nth = EVERY_NTH.get(file, {}).get(test)
        if nth is not None and item.get_closest_marker("slow") is None:
            if seen[file, test] % nth:
                item.add_marker(pytest.mark.slow)
            seen[file, test] += 1
