using Tiller.Model;
using Tiller.Real;
using Tiller.Tool;

namespace Tiller.Tests.Real;

/// <summary>SmolLM2-135M-Instruct, a model that people use, against goldens of the published code.</summary>
public sealed class RealModelTests
{
    // What a gate has time for: one in six of the steered continuations. `tiller verify` runs all.
    private const int OneIn = 6;

    [Test]
    public void SmolLM2_agrees_with_its_goldens()
    {
        string real = SharedFolder.Require("real");
        string folder = Directory.CreateDirectory(Repository.Path("artifacts", "real", "smollm2")).FullName;
        Unpack(real, Path.Combine(folder, "checkpoint"));
        foreach (string golden in Directory.GetFiles(Path.Combine(real, "golden")))
        {
            File.Copy(golden, Path.Combine(folder, Path.GetFileName(golden)), overwrite: true);
        }

        var rows = Verification.Run(folder, new LoadOptions(), null, CancellationToken.None, OneIn).ToList();
        foreach (var row in rows)
        {
            TestContext.Out.WriteLine($"{row.Kind}: {row.Count}, worst {row.Worst:E1}, bound {row.Bound:E1} {row.Note}");
        }

        string[] kinds = ["ids with template", "loose decoding", "hidden states", "logits", "plain continuations", "feature", "last continuations",
            "all projections"];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(rows.Where(r => !r.Passed), Is.Empty);
            Assert.That(rows.Select(r => r.Kind), Is.SupersetOf(kinds));
            Assert.That(rows, Has.All.Matches<VerificationRow>(r => r!.Count > 0));
        }
    }

    // Once: the unpacked checkpoint stays in an ignored folder, and its hash says whether it is still right.
    private static void Unpack(string real, string checkpoint)
    {
        string weights = Path.Combine(checkpoint, "model.safetensors");
        if (File.Exists(weights))
        {
            using var stream = File.OpenRead(weights);
            if (Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(stream)) == Unpacking.Sha256)
            {
                return;
            }
        }

        string[] ggufs = Directory.GetFiles(Path.Combine(real, "smollm2"), "*.gguf");
        Assert.That(ggufs, Has.Length.EqualTo(1));
        Unpacking.Run(ggufs[0], checkpoint);
    }
}
