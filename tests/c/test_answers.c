// The demo model answers, and the answers are true.
#include "fixture.h"
#include "harness.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *question, *expected;
} QUESTIONS[] = {
    {"What is the capital of France?", "Paris"},
    {"What is the capital of Japan?", "Tokyo"},
    {"What is the opposite of hot?", "cold"},
    {"What is 2 + 3?", "5"},
    {"What is 17 + 25?", "42"},
    {"What is 10 - 4?", "6"},
};

TEST(questions) {
    size_t count = short_run() ? 2 : sizeof QUESTIONS / sizeof *QUESTIONS;
    for (size_t i = 0; i < count; i++) {
        answer out = {0};
        mlxrt_generate_result result = {.struct_size = sizeof result};
        REQUIRE_OK(ask(shared_model(), QUESTIONS[i].question, NULL, &out, &result));
        CHECK_CONTAINS(out.text, QUESTIONS[i].expected);
        CHECK_INT(result.finish, MLXRT_FINISH_END);
        CHECK_INT(result.stop_token, 2);
        CHECK_INT(out.broken, 0);
    }
}

TEST(a_conversation_is_remembered) {
    mlxrt_message messages[] = {
        {string("user"), string("What is the capital of France?")},
        {string("assistant"), string("The capital of France is Paris.")},
        {string("user"), string("What is the capital of Italy?")},
    };
    answer out = {0};
    REQUIRE_OK(mlxrt_model_chat(shared_model(), messages, 3, NULL, NULL, collect, &out, NULL));
    CHECK_CONTAINS(out.text, "Rome");
}

TEST(a_story) {
    answer out = {0};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = short_run() ? 15 : 0};
    REQUIRE_OK(ask(shared_model(), "Tell me a short story about a fox.", &options, &out, &result));
    CHECK(result.generated_tokens >= 15);
    if (!short_run()) {
        CHECK_CONTAINS(out.text, "fox");
        CHECK_INT(result.finish, MLXRT_FINISH_END);
    }
}

TEST(generate_of_the_rendered_chat_is_chat) {
    mlxrt_message message = {string("user"), string("What is the capital of France?")};
    char prompt[512];
    size_t len = 0, count = 0;
    int32_t ids[512];
    answer by_chat = {0}, by_text = {0}, by_ids = {0};
    REQUIRE_OK(mlxrt_model_render_chat(shared_model(), &message, 1, NULL, prompt, sizeof prompt, &len));
    REQUIRE_OK(mlxrt_model_tokenize(shared_model(), prompt, len, 0, ids, 512, &count));
    mlxrt_generate_options options = {.struct_size = sizeof options, .no_special = 1};
    REQUIRE_OK(mlxrt_model_chat(shared_model(), &message, 1, NULL, NULL, collect, &by_chat, NULL));
    REQUIRE_OK(mlxrt_model_generate(shared_model(), prompt, len, &options, collect, &by_text, NULL));
    REQUIRE_OK(mlxrt_model_generate_ids(shared_model(), ids, count, &options, collect, &by_ids, NULL));
    CHECK(strcmp(by_chat.text, by_text.text) == 0);
    CHECK(strcmp(by_chat.text, by_ids.text) == 0);
}

TEST(the_result_tells_what_it_took) {
    answer out = {0};
    mlxrt_generate_result result = {.struct_size = sizeof result};
    mlxrt_generate_options options = {.struct_size = sizeof options, .max_tokens = 20, .ignore_end = 1};
    size_t count = 0;
    REQUIRE_OK(mlxrt_model_tokenize(shared_model(), "Once upon a time", 16, 1, NULL, 0, &count));
    REQUIRE_OK(continue_text(shared_model(), "Once upon a time", &options, &out, &result));
    CHECK_INT(result.prompt_tokens, count);
    CHECK_INT(result.generated_tokens, 20);
    CHECK_INT(out.id_count, 20);
    CHECK(result.prefill_seconds > 0 && result.decode_seconds > 0);
    CHECK(result.total_seconds + 1e-6 >= result.prefill_seconds + result.decode_seconds);
    CHECK(fabs(result.prefill_tokens_per_second - (double)count / result.prefill_seconds) <
          1e-3 * (double)count / result.prefill_seconds);
    CHECK(fabs(result.decode_tokens_per_second * result.decode_seconds - 19) < 1e-3);
    CHECK(result.peak_memory_bytes >= result.active_memory_bytes);
    CHECK(result.active_memory_bytes > 0);
}

static int32_t add_logprob(void *user_data, const mlxrt_token *token) {
    double *sum = user_data;
    CHECK(token->id == -1 ? token->logprob == 0 : token->logprob <= 0);
    *sum += token->logprob;
    return 0;
}

TEST(a_sure_answer_has_a_high_probability) {
    mlxrt_message message = {string("user"), string("What is the capital of France?")};
    double sum = 0;
    REQUIRE_OK(mlxrt_model_chat(shared_model(), &message, 1, NULL, NULL, add_logprob, &sum, NULL));
    CHECK(sum < 0 && sum > -5);
}

int main(void) {
    RUN(questions);
    RUN(a_conversation_is_remembered);
    RUN(a_story);
    RUN(generate_of_the_rendered_chat_is_chat);
    RUN(the_result_tells_what_it_took);
    RUN(a_sure_answer_has_a_high_probability);
    return end_of_tests();
}
