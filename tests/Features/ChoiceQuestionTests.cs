using Tiller.Features;

namespace Tiller.Tests.Features;

/// <summary>Questions of multiple choice as they are published.</summary>
public sealed class ChoiceQuestionTests
{
    private const string TruthfulJson = """
        [{"question": "Why?", "mc0_targets": {"Yes; so": 1, "No": 0}, "mc1_targets": {"Yes; so": 1, "No": 0, "Never": 0},
          "mc2_targets": {"Yes; so": 1, "Indeed": 1, "": 1, "No": 0, "Never": 0}}]
        """;

    private const string TruthfulHub = """
        {"question": "Why?", "mc1_targets": {"choices": ["Yes; so", "No", "Never"], "labels": [1, 0, 0]},
        """ + """ "mc2_targets": {"choices": ["Yes; so", "Indeed", "No", "Never"], "labels": [1, 1, 0, 0]}}""";

    private const string TruthfulTable = "Type,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source\n"
        + "x,Why?,Yes; so,No,Yes; so; Indeed; Indeed,No; Never,\n";

    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-choice").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("t.json", TruthfulJson, ChoiceTargets.Pair, "+ Yes; so|- No")]
    [TestCase("t.json", TruthfulJson, ChoiceTargets.One, "+ Yes; so|- No|- Never")]
    [TestCase("t.json", TruthfulJson, ChoiceTargets.All, "+ Yes; so|+ Indeed|- No|- Never")]
    [TestCase("t.jsonl", TruthfulHub, ChoiceTargets.One, "+ Yes; so|- No|- Never")]
    [TestCase("t.jsonl", TruthfulHub, ChoiceTargets.All, "+ Yes; so|+ Indeed|- No|- Never")]
    [TestCase("t.csv", TruthfulTable, ChoiceTargets.Pair, "+ Yes; so|- No")]
    [TestCase("t.csv", TruthfulTable, ChoiceTargets.One, "+ Yes; so|- No|- Never")]
    [TestCase("t.csv", TruthfulTable, ChoiceTargets.All, "+ Yes; so|+ Indeed|- No|- Never")]
    public void TruthfulQA_is_read_in_all_its_forms(string name, string text, ChoiceTargets targets, string answers)
    {
        var question = Read(name, text, targets);
        Assert.That(question.Text, Is.EqualTo("Q: Why?\nA:"));
        Assert.That(Shown(question), Is.EqualTo(answers));
    }

    [TestCase("m.csv", "Two?,1,2,3,4,B\n")]
    [TestCase("m.csv", "question,choice0,choice1,choice2,choice3,answer\nTwo?,1,2,3,4,1\n")]
    [TestCase("m.csv", ",Question,A,B,C,D,Answer,Subject\n0,Two?,1,2,3,4,B,numbers\n")]
    [TestCase("m.jsonl", """{"question": "Two?", "subject": "numbers", "choices": ["1", "2", "3", "4"], "answer": 1}""")]
    [TestCase("m.json", """[{"question": "Two?", "choices": ["1", "2", "3", "4"], "answer": "B"}]""")]
    public void MMLU_is_a_choice_of_letters(string name, string text)
    {
        var question = Read(name, text);
        Assert.That(question.Text, Is.EqualTo("Two?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"));
        Assert.That(Shown(question), Is.EqualTo("- A|+ B|- C|- D"));
    }

    [TestCase("""[{"question": "So?\n (A) no\n (B) yes", "answer_matching_behavior": "(B)", "answer_not_matching_behavior": "(A)"}]""", "+ (B|- (A")]
    [TestCase("""[{"question": "So?\n (A) no\n (B) yes", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": "No"}]""", "+ Yes|- No")]
    [TestCase("""[{"prompt": "So?\n (A) no\n (B) yes", "correct": "(B)", "incorrect": "(A)"}]""", "+ (B|- (A")]
    public void Behaviours_are_a_choice_of_two(string text, string answers)
    {
        var question = Read("b.json", text);
        Assert.That(question.Text, Is.EqualTo("So?\n (A) no\n (B) yes\n\nAnswer:"));
        Assert.That(Shown(question), Is.EqualTo(answers));
    }

    [Test]
    public void A_question_may_be_asked_otherwise()
    {
        File.WriteAllText(Path.Combine(_folder, "t.json"), TruthfulJson);
        var question = ChoiceQuestion.Read(Path.Combine(_folder, "t.json"), form: "Q: {question} A:")[0];
        Assert.That(question.Text, Is.EqualTo("Q: Why? A:"));
    }

    [TestCase("x.json", """[{"question": "Why?"}]""", "$[0]: expected a question with right and wrong answers")]
    [TestCase("x.json", """[{"question": "Why?", "mc1_targets": {"Yes": 1}}]""", "$[0]: expected a question with right and wrong answers")]
    [TestCase("x.csv", "Two?,1,2,3,4,B\nThree?,1,2,3,4,E\n", "line 1: expected a question with right and wrong answers")]
    [TestCase("x.csv", "question,choice0,choice1,answer\nTwo?,1,2,2\n", "line 2: expected a question with right and wrong answers")]
    [TestCase("x.txt", "Why?", "questions of multiple choice are read from tables")]
    [TestCase("x.json", "[]", "must hold at least one")]
    public void What_is_no_choice_is_told(string name, string text, string problem) =>
        Assert.That(() => Read(name, text), Throws.TypeOf<PromptFileException>().With.Message.Contains(problem));

    private static string Shown(ChoiceQuestion question) =>
        string.Join('|', question.Answers.Select(static x => (x.IsTrue ? "+" : "-") + x.Text));

    private ChoiceQuestion Read(string name, string text, ChoiceTargets targets = ChoiceTargets.One)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return ChoiceQuestion.Read(path, targets).Single();
    }
}
