using Tiller.Model;
using Tiller.Tests.Tool;
using Tiller.Tool;

namespace Tiller.Tests.Jinja;

/// <summary>Renderings and pieces of Jinja as jinja2 3.1.6 gives them in transformers' environment.</summary>
internal sealed class GoldenTemplateTests
{
    private static readonly string s_own = Repository.Path("tests", "Jinja", "cases");

    [Test]
    public void Every_case_of_the_projects_own_gives_the_same_text_or_error() => AllAgree(s_own, least: 400);

    [Test]
    public void Every_case_of_published_templates_gives_the_same_text_or_error() => AllAgree(SharedFolder.Require("chat-templates"), least: 2800);

    [Test]
    public void A_case_that_differs_is_counted_and_named()
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["snippets.json"], """
            {"strftime_now": "2026-03-05T07:08:09", "snippets": [
              {"name": "right", "template": "{{ 1 }}", "expected": "1"}, {"name": "text", "template": "{{ 1 }}", "expected": "2"},
              {"name": "fails", "template": "{{ x.y }}", "expected": ""}, {"name": "passes", "template": "{{ x }}", "error_class": "TypeError"},
              {"name": "raises", "template": "{{ raise_exception('a') }}", "error": "b"},
              {"name": "raises-instead", "template": "{{ raise_exception('a') }}", "error_class": "TypeError"}]}
            """);
        VerificationRow row = Verification.Run(scratch["."], new LoadOptions(), null, CancellationToken.None).Single();
        Assert.That((row.Count, row.Worst, row.Passed), Is.EqualTo((6, 5d, false)));
        Assert.That(row.Note, Is.EqualTo("differ: text, fails, passes, raises, raises-instead"));
    }

    [Test]
    public void Templates_may_lie_in_another_folder()
    {
        using var scratch = new Scratch();
        File.Copy(Path.Combine(s_own, "renderings.json"), scratch["renderings.json"]);
        Assert.That(Verification.Run(scratch["."], new LoadOptions(), null, CancellationToken.None, templates: s_own).Single().Passed, Is.True);
        Assert.Throws<GoldenException>(() => Verification.Run(scratch["."], new LoadOptions(), null, CancellationToken.None).ToList());
    }

    private static void AllAgree(string folder, int least)
    {
        var rows = Verification.Run(folder, new LoadOptions(), null, CancellationToken.None).ToList();
        Assert.That(rows.Where(static row => !row.Passed).Select(static row => $"{row.Kind}: {row.Worst} of {row.Count}, {row.Note}"), Is.Empty);
        Assert.That(rows.Sum(static row => row.Count), Is.GreaterThanOrEqualTo(least));
    }
}
