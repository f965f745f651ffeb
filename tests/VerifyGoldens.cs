using Tiller.Model;
using Tiller.Tool.Verify;
namespace Tiller.Tests;
public class VerifyGoldens
{
    [TestCaseSource(typeof(Repository), nameof(Repository.Goldens))]
    public void All(string folder)
    {
        var rows = Verification.Run(folder, new LoadOptions(), CancellationToken.None).ToList();
        foreach (var r in rows) TestContext.Out.WriteLine($"{r.Kind,-28} {r.Count,6} {r.Worst:E2} {r.Bound:E1} {(r.Passed ? "pass" : "FAIL")} {r.Note}");
        Assert.That(rows.Where(r => !r.Passed), Is.Empty);
    }
}
