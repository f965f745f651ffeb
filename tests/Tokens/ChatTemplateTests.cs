using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Templates in other spellings are the same template; templates that do something else are refused.</summary>
internal sealed class ChatTemplateTests
{
    private const string Spaced = """
        {#- a comment #}
        {%- if tools %}
            {{- '<|im_start|>system\n# Tools' + (tools | tojson) }}
        {%- else %}
            {%- if messages[0]["role"] == 'system' %}
                {{- "<|im_start|>system\n" + messages[0].content + '<|im_end|>\n' }}
            {%- else %}
                {{- '<|im_start|>system\nBe "kind".<|im_end|>\n' }}
            {%- endif %}
        {%- endif %}
        {%- for message in messages %}
            {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
                {{- '<|im_start|>' + message.role + '\n' + message['content'] + '<|im_end|>' + '\n' }}
            {%- elif message.role == "assistant" %}
                {{- '<|im_start|>' + message.role }}
            {%- elif message.role == "tool" %}
                {{- '<tool_response>' }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}
            {{- '<|im_start|>assistant\n' }}
        {%- endif %}
        """;

    private const string Dated = """
        {{- bos_token }}
        {%- if not date_string is defined %}
            {%- if strftime_now is defined %}
                {%- set date_string = strftime_now("%d %b %Y") %}
            {%- else %}
                {%- set date_string = "26 Jul 2024" %}
            {%- endif %}
        {%- endif %}
        {%- if messages[0]['role'] == 'system' %}
            {%- set system_message = messages[0]['content']|trim %}
            {%- set messages = messages[1:] %}
        {%- else %}
            {%- set system_message = "" %}
        {%- endif %}
        {{- "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n" }}
        {{- "Today Date: " + date_string + "\n\n" }}
        {{- system_message + "<|eot_id|>" }}
        {%- for message in messages %}
            {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
                {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
        {%- endif %}
        """;

    [Test]
    public void Default_system_message_is_the_templates_own() =>
        Assert.That(Find(Spaced), Is.EqualTo(new ChatMlStyle("Be \"kind\".")));

    // An empty tag whose sign both sides could claim; found by the fuzzer.
    [TestCase("{%-%}")]
    [TestCase("{{-}}")]
    [TestCase("{%+%}")]
    [TestCase("{#-#}")]
    [TestCase("{{")]
    public void A_template_of_an_empty_tag_is_read_or_refused(string template)
    {
        string program = "";
        try
        {
            program = ChatProgram.Of(template);
        }
        catch (ChatException)
        {
            return;
        }

        Assert.That(KnownTemplates.Find(program, TimeProvider.System), Is.Null);
    }

    [Test]
    public void A_date_is_the_templates_or_the_clocks()
    {
        Assert.That(Text("llama3-bf16", Dated, new ChatMessage("system", " Sail. "), new ChatMessage("user", "Hi")), Is.EqualTo(
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 05 Mar 2031\n\nSail.<|eot_id|>"
            + "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"));
        string fixedDate = Dated.Replace("strftime_now is defined", "tools", StringComparison.Ordinal);
        Assert.That(Text("llama3-bf16", fixedDate, new ChatMessage("user", "Hi")), Does.Contain("Today Date: 26 Jul 2024\n\n<|eot_id|>"));
    }

    [TestCase("{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('a') }}{% endif %}"
        + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
        + "{% else %}{{ raise_exception('b') }}{% endif %}{% endfor %}", "<s>[INST] a [/INST]b</s>[INST]  c  [/INST]")]
    [TestCase("{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('a') }}{% endif %}"
        + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
        + "{% else %}{{ raise_exception('b') }}{% endif %}{% endfor %}", "<s>[INST] a [/INST]b</s> [INST]  c  [/INST]")]
    [TestCase("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}"
        + "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        + "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('a') }}{% endif %}"
        + "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        + "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        + "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "<s>[INST] a [/INST] b </s><s>[INST] c [/INST]")]
    public void Instruction_templates(string template, string expected) =>
        Assert.That(Text("llama2-f32", template, new ChatMessage("user", "a"), new ChatMessage("assistant", "b"), new ChatMessage("user", " c ")), Is.EqualTo(expected));

    [TestCase("{% for m in messages %}{{ m.content }}{% endfor %}")]
    [TestCase("{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}")]
    [TestCase("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n<think>\n' }}")]
    [TestCase("{% macro x() %}{% endmacro %}")]
    [TestCase("{% if x %}")]
    [TestCase("{{ 'open ")]
    [TestCase("{% endfor %}")]
    public void Other_templates_are_refused(string template)
    {
        ChatException error = Assert.Throws<ChatException>(() => Text("llama3-bf16", template, new ChatMessage("user", "a")))!;
        Assert.That(error.Code, Is.EqualTo(ChatError.Unrecognised));
    }

    [Test]
    public void Deep_nesting_is_refused([Values("(", "[", "{% if x %}", "{% for m in messages %}")] string open)
    {
        string many = string.Concat(Enumerable.Repeat(open, 100_000));
        ChatException error = Assert.Throws<ChatException>(() => ChatProgram.Of(open.Length == 1 ? $"{{% if {many} %}}{{% endif %}}" : many))!;
        Assert.That(error.Code, Is.EqualTo(ChatError.Unrecognised));
        Assert.That(error.Message, Does.Contain("nests more than 64"));
    }

    [TestCase(100_000, ExpectedResult = "")]
    [TestCase(100_001, ExpectedResult = "\"a\"")]
    public string Long_rows_of_operators_take_no_stack(int nots) =>
        ChatProgram.Of($"{{% if {string.Concat(Enumerable.Repeat("not ", nots))}tools %}}a{{% endif %}}");

    [Test]
    public void Long_rows_of_subscripts_take_one_pass()
    {
        string row = string.Concat(Enumerable.Repeat("['a']", 200_000));
        Assert.That(ChatProgram.Of($"{{{{ x{row} }}}}"), Has.Length.EqualTo(3 + (2 * 200_000)));
    }

    private static ChatStyle? Find(string template) => KnownTemplates.Find(ChatProgram.Of(template), TimeProvider.System);

    // The decoded ids of a chat under a golden's tokenizer and the given template.
    private static string Text(string folder, string template, params ChatMessage[] messages)
    {
        string golden = Path.Combine(Repository.Path("tests", "goldens", folder), "checkpoint");
        string directory = Directory.CreateTempSubdirectory("chat").FullName;
        try
        {
            File.Copy(Path.Combine(golden, "tokenizer_config.json"), Path.Combine(directory, "tokenizer_config.json"));
            File.WriteAllText(Path.Combine(directory, "chat_template.jinja"), template);
            Tokenizer tokenizer = Tokenizer.Load(golden);
            ChatFormat format = ChatFormat.Load(directory, tokenizer, new Clock());
            var text = new System.Text.StringBuilder();
            List<int> run = [];
            foreach (int id in format.Encode(messages).Append(-1))
            {
                if (id >= 0 && !tokenizer.IsSpecial(id))
                {
                    run.Add(id);
                    continue;
                }

                text.Append(tokenizer.Decode([.. run])).Append(id < 0 ? "" : tokenizer.TokenOf(id));
                run.Clear();
            }

            return text.ToString();
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private sealed class Clock : TimeProvider
    {
        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => new(2031, 3, 5, 12, 0, 0, TimeSpan.Zero);
    }
}
