using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Features;

/// <summary>The forms of prompts: what is measured of texts, chats and token ids, and what is refused by the prompt's name.</summary>
public sealed class PromptEncoderTests
{
    private const string Qwen = "qwen2-bf16";
    private static readonly string[] s_positive = ["The sea is wide.", "A gull cried."];
    private static readonly string[] s_negative = ["The dog slept."];

    [TestCase(Qwen, null)]
    [TestCase(Qwen, "Be brief.")]
    [TestCase("llama3-bf16", "Be brief.")]
    [TestCase("gemma2-bf16", null)]
    [TestCase("llama2-f32", "Be brief.")]
    public void A_chat_is_measured_at_the_last_token_of_what_a_session_is_given(string family, string? system)
    {
        var model = TestModels.Load(family);
        ChatMessage[] Messages(string text) => [.. system is null ? [] : new[] { new ChatMessage("system", system) }, new ChatMessage("user", text)];
        int[][] Ids(string[] texts) => [.. texts.Select(text => model.Chat.Encode(Messages(text)))];
        var expected = FeatureMeasurement.Measure(model, new ContrastSet(Ids(s_positive), Ids(s_negative)));
        var texts = FeatureMeasurement.Measure(model, new ContrastSet(s_positive, s_negative).AsChat(system));
        var messages = FeatureMeasurement.Measure(
            model, new ContrastSet([.. s_positive.Select(Messages)], (IReadOnlyList<IReadOnlyList<ChatMessage>>)[.. s_negative.Select(Messages)]));
        var raw = FeatureMeasurement.Measure(model, new ContrastSet(s_positive, s_negative));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(texts.V, Is.EqualTo(expected.V));
            Assert.That(messages.V, Is.EqualTo(expected.V));
            Assert.That(raw.V, Is.Not.EqualTo(expected.V));
        }
    }

    [Test]
    public void Token_ids_are_taken_as_they_are_and_their_form_is_not_known()
    {
        var model = TestModels.Load(Qwen);
        int[][] Ids(string[] texts) => [.. texts.Select(text => model.Tokenizer.Encode(text))];
        var texts = ControllerFit.Run(model, new ContrastSet(s_positive, s_negative), new FitOptions { Calibration = ["One day"] });
        var calibration = new TokenPrompt(model.Tokenizer.Encode("One day"));
        var ids = ControllerFit.Run(model, new ContrastSet(Ids(s_positive), Ids(s_negative)), new FitOptions { Calibration = [calibration] });
        using (Assert.EnterMultipleScope())
        {
            Assert.That(((LinearQuadratic)ids.Controller.Method).W, Is.EqualTo(((LinearQuadratic)texts.Controller.Method).W));
            Assert.That(new[] { texts, ids }.Select(fit => fit.Controller.Source.Form),
                Is.EqualTo(new PromptForm[] { new RawForm(), new TokenForm() }));
            Assert.That(ids.Controller.DifferenceTo(new RawForm()), Is.Null);
            Assert.That(ids.Controller.Source.Positive.Sha256, Is.Not.EqualTo(texts.Controller.Source.Positive.Sha256));
        }
    }

    private static IEnumerable<TestCaseData> Refused()
    {
        string all = string.Join(' ', Enumerable.Range(0, 3000)), first = "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 …";
        int[][] one = [[1]], outside = [[1, 2], [3, 1 << 20]], negative = [[0], [-1]];
        yield return Case("ids outside", new ContrastSet(outside, one), "Positive prompt 2 (\"3 1048576\") has the id 1048576 at 1");
        yield return Case("negative ids", new ContrastSet(one, negative), "Negative prompt 2 (\"-1\") has the id -1 at 0");
        yield return Case("no ids", new ContrastSet([[1, 2]], (IReadOnlyList<int[]>)[[]]), "Negative prompt 1 (\"\") has no token");
        yield return Case("empty", new ContrastSet(["a", ""], (IReadOnlyList<string>)["b"]), "Positive prompt 2 (\"\") has no token");
        yield return Case("long text", new ContrastSet(["a"], ["b", all]), $"Negative prompt 2 (\"{first}\"): ");
        yield return Case("long chat", new ContrastSet(["a"], [all]).AsChat("Be brief."), $"Negative prompt 1 (\"{first}\"): ");
        string word = new('é', 39);
        yield return Case("long word", new ContrastSet(["a"], [$"{word}\U0001F6A2{all}"]), $"Negative prompt 1 (\"{word} …\"): ");
        yield return Case("long ids", new ContrastSet([[1]], (IReadOnlyList<int[]>)[new int[3000]]), "Negative prompt 1 (\"0 0 0 0");
        yield return Case("half a surrogate pair", new ContrastSet(["a"], ["b", "c\ud800"]), "Negative prompt 2");
        Prompt user = new ChatPrompt([new ChatMessage("user", "b")]);
        yield return Case("mixed", new ContrastSet(["a"], [user]), "Positive prompt 1 (\"a\") is a text and Negative prompt 1 (\"b\") is a chat");

        static TestCaseData Case(string name, ContrastSet contrast, string says) => new TestCaseData(contrast, says).SetArgDisplayNames(name);
    }

    [TestCaseSource(nameof(Refused))]
    public void A_prompt_that_cannot_be_measured_is_named_by_its_list_its_number_and_its_first_words(ContrastSet contrast, string says)
    {
        var model = TestModels.Load(Qwen);
        Assert.That(() => FeatureMeasurement.Measure(model, contrast), Throws.InstanceOf<TillerException>().With.Message.StartsWith(says));
        Assert.That(() => ControllerFit.Run(model, contrast), Throws.InstanceOf<TillerException>().With.Message.StartsWith(says));
    }

    [Test]
    public void A_chat_that_the_template_refuses_is_named_too()
    {
        using var checkpoint = new EditableCheckpoint(Qwen);
        File.WriteAllText(
            checkpoint["chat_template.jinja"], "{{ raise_exception('No robots.') if messages[0].role == 'robot' }}{{ messages[0].content }}");
        using var model = LanguageModel.Load(checkpoint.Save());
        Prompt user = new ChatPrompt([new ChatMessage("user", "b")]), robot = new ChatPrompt([new ChatMessage("robot", "b c")]);
        Assert.That(
            () => FeatureMeasurement.Measure(model, new ContrastSet([user], [robot])),
            Throws.InstanceOf<TillerException>().With.Message.Match("^Negative prompt 1 \\(\"b c\"\\) cannot be encoded.*No robots\\."));
    }

    [Test]
    public void Every_prompt_is_looked_at_before_the_first_is_run()
    {
        var told = new Told<FitProgress>();
        var contrast = new ContrastSet(s_positive, s_negative);
        var options = new FitOptions { Calibration = [string.Join(' ', Enumerable.Range(0, 3000))] };
        Assert.That(() => ControllerFit.Run(TestModels.Load(Qwen), contrast, options, told), Throws.InstanceOf<ContextLengthException>());
        Assert.That(told.Values, Is.Empty);
    }

    [Test]
    public void Calibration_prompts_are_of_the_same_form()
    {
        var options = new FitOptions { Calibration = ["One day"] };
        Assert.That(
            () => ControllerFit.Run(TestModels.Load(Qwen), new ContrastSet(s_positive, s_negative).AsChat(), options),
            Throws.TypeOf<ContrastSetException>().With.Message.Contains("Calibration prompt 1").And.Message.Contains("AsChat"));
    }

    [Test]
    public void A_checkpoint_without_a_template_has_no_chats()
    {
        var contrast = new ContrastSet(s_positive, s_negative).AsChat();
        Assert.That(() => FeatureMeasurement.Measure(TestModels.Demo, contrast), Throws.TypeOf<ChatException>());
    }

    [Test]
    public void A_chat_has_one_system_message_of_its_own_or_one_that_is_given()
    {
        var own = new ChatPrompt([new ChatMessage("system", "A"), new ChatMessage("user", "b")]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(own.AsChat(), Is.SameAs(own));
            Assert.That(new ChatPrompt([new ChatMessage("user", "b")]).AsChat("S").System, Is.EqualTo("S"));
            Assert.That(
                () => new ContrastSet([own], [own]).AsChat("S"),
                Throws.TypeOf<ContrastSetException>().With.Message.StartsWith("Positive prompt 1 (\"b\"): The chat has a system message"));
            Assert.That(() => new TokenPrompt([1]).AsChat(), Throws.TypeOf<ContrastSetException>());
            Assert.That(() => new ChatPrompt([]), Throws.ArgumentException);
        }
    }
}
