// What ends an answer, how it streams, and what the sampling options do.
#include "fixture.h"
#include "harness.h"

#include <string.h>

static const char FRANCE[] = "What is the capital of France?";

TEST(max_tokens_ends_it) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 7, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    answer out = {0};
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &out, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_LENGTH);
    CHECK_INT(result.generated_tokens, 7);
    CHECK_INT(result.stop_token, -1);
    CHECK_INT(out.id_count, 7);
}

TEST(max_tokens_is_256_by_default) {
    if (short_run()) {
        return;
    }
    mlxrt_generate_options options = {.struct_size = sizeof options, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, NULL, &result));
    CHECK_INT(result.generated_tokens, 256);
}

TEST(the_callback_ends_it) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 50, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    answer out = {.stop_after = 3};
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &out, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_CALLBACK);
    CHECK_INT(out.calls, 3);
    CHECK(result.generated_tokens >= 3 && result.generated_tokens <= 4);
}

TEST(a_stop_string_ends_it_and_is_left_out) {
    answer whole = {0}, cut = {0};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    REQUIRE_OK(ask(shared_model(), FRANCE, NULL, &whole, NULL));
    const char *paris = strstr(whole.text, "Paris");
    REQUIRE(paris != NULL);
    // Neither begins nor ends with a token of its own, most likely.
    mlxrt_string stops[] = {string("never said"), string("ari")};
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .stop_strings = stops, .stop_string_count = 2};
    REQUIRE_OK(ask(shared_model(), FRANCE, &options, &cut, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_STOP_STRING);
    CHECK_INT(cut.len, paris + 1 - whole.text);
    CHECK(strncmp(cut.text, whole.text, cut.len) == 0);
}

TEST(text_that_could_have_become_a_stop_string_comes_after_all) {
    answer whole = {0}, same = {0};
    mlxrt_string stops[] = {string("Paris and London"), string("Paris is no"), string("s.....")};
    mlxrt_generate_options options = {
        .struct_size = sizeof options, .stop_strings = stops, .stop_string_count = 3};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    REQUIRE_OK(ask(shared_model(), FRANCE, NULL, &whole, NULL));
    REQUIRE_OK(ask(shared_model(), FRANCE, &options, &same, &result));
    CHECK(strcmp(whole.text, same.text) == 0);
    CHECK_INT(result.finish, MLXRT_FINISH_END);
}

static bool was_there_before(const answer *out, size_t at) {
    for (size_t i = 0; i < at; i++) {
        if (out->ids[i] == out->ids[at]) {
            return true;
        }
    }
    return false;
}

TEST(a_stop_token_ends_it_and_is_left_out) {
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 20, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    answer whole = {0}, cut = {0};
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &whole, NULL));
    REQUIRE(whole.id_count == 20);
    size_t at = 4;
    while (at < 20 && was_there_before(&whole, at)) {
        at++;
    }
    REQUIRE(at < 20);
    options.stop_tokens = &whole.ids[at];
    options.stop_token_count = 1;
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &cut, &result));
    CHECK_INT(result.finish, MLXRT_FINISH_END);
    CHECK_INT(result.stop_token, whole.ids[at]);
    CHECK_INT(result.generated_tokens, at + 1);
    CHECK(strncmp(whole.text, cut.text, cut.len) == 0 && cut.len < whole.len);
}

TEST(the_end_token_is_no_text_unless_ignored) {
    answer out = {0}, on = {0};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 20, .ignore_end = 1};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    REQUIRE_OK(ask(shared_model(), FRANCE, NULL, &out, NULL));
    CHECK(strstr(out.text, "<|im_end|>") == NULL);
    REQUIRE_OK(ask(shared_model(), FRANCE, &options, &on, &result));
    CHECK_INT(result.generated_tokens, 20);
    CHECK(strncmp(on.text, out.text, out.len) == 0);
}

TEST(greedy_is_the_same_each_time) {
    answer first = {0}, second = {0};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 20, .ignore_end = 1};
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &first, NULL));
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &second, NULL));
    CHECK(strcmp(first.text, second.text) == 0);
}

// Some sampled tokens.
static answer sample(mlxrt_generate_options options) {
    answer out = {0};
    options.struct_size = sizeof options;
    options.max_tokens = short_run() ? 12 : 40;
    options.ignore_end = 1;
    CHECK_OK(continue_text(shared_model(), "Once upon a time", &options, &out, NULL));
    return out;
}

static bool same_ids(const answer *a, const answer *b) {
    return a->id_count == b->id_count && memcmp(a->ids, b->ids, a->id_count * sizeof *a->ids) == 0;
}

TEST(the_same_seed_gives_the_same_tokens) {
    mlxrt_generate_options options = {.temperature = 1.5f, .seed = 42};
    answer first = sample(options), second = sample(options);
    CHECK(same_ids(&first, &second));
    options.seed = 43;
    second = sample(options);
    CHECK(!same_ids(&first, &second));
}

TEST(no_seed_gives_other_tokens_each_time) {
    mlxrt_generate_options options = {.temperature = 2};
    answer first = sample(options), second = sample(options);
    CHECK(!same_ids(&first, &second));
}

TEST(filters_that_leave_one_token_are_greedy) {
    answer greedy = sample((mlxrt_generate_options){0});
    answer top_k = sample((mlxrt_generate_options){.temperature = 1, .top_k = 1});
    answer top_p = sample((mlxrt_generate_options){.temperature = 1, .top_p = 1e-6f});
    answer min_p = sample((mlxrt_generate_options){.temperature = 1, .min_p = 1});
    answer cold = sample((mlxrt_generate_options){.temperature = 1e-4f});
    CHECK(same_ids(&greedy, &top_k));
    CHECK(same_ids(&greedy, &top_p));
    CHECK(same_ids(&greedy, &min_p));
    CHECK(same_ids(&greedy, &cold));
}

TEST(a_penalty_prevents_repetition) {
    mlxrt_generate_options options = {.repetition_penalty = 100, .repetition_window = 1000};
    answer out = sample(options);
    for (size_t i = 1; i < out.id_count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (!CHECK(out.ids[i] != out.ids[k])) {
                return;
            }
        }
    }
}

// At this temperature tokens come nearly at random: bytes of broken characters among them.
TEST(random_tokens_stream_as_whole_utf8) {
    for (uint64_t seed = 1; seed <= (short_run() ? 2 : 5); seed++) {
        answer out = sample((mlxrt_generate_options){.temperature = 50, .seed = seed});
        CHECK_INT(out.broken, 0);
        CHECK(is_utf8(out.text, out.len));
        CHECK(out.id_count >= 12);
    }
}

TEST(streamed_text_is_the_text_of_the_tokens) {
    answer out = sample((mlxrt_generate_options){0});
    char text[4096];
    size_t len = 0;
    REQUIRE_OK(mlxrt_model_detokenize(shared_model(), out.ids, out.id_count, 1, text, sizeof text, &len));
    CHECK(len == out.len && memcmp(text, out.text, len) == 0);
}

int main(void) {
    RUN(max_tokens_ends_it);
    RUN(max_tokens_is_256_by_default);
    RUN(the_callback_ends_it);
    RUN(a_stop_string_ends_it_and_is_left_out);
    RUN(text_that_could_have_become_a_stop_string_comes_after_all);
    RUN(a_stop_token_ends_it_and_is_left_out);
    RUN(the_end_token_is_no_text_unless_ignored);
    RUN(greedy_is_the_same_each_time);
    RUN(the_same_seed_gives_the_same_tokens);
    RUN(no_seed_gives_other_tokens_each_time);
    RUN(filters_that_leave_one_token_are_greedy);
    RUN(a_penalty_prevents_repetition);
    RUN(random_tokens_stream_as_whole_utf8);
    RUN(streamed_text_is_the_text_of_the_tokens);
    return end_of_tests();
}
