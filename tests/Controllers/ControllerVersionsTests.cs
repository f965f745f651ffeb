using System.Security.Cryptography;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tests.Controllers;

/// <summary>
/// Controller files load for ever, whichever version of the format wrote them: tests/controllers keeps one of each method and version.
/// </summary>
public sealed class ControllerVersionsTests
{
    private const int Layers = 3;
    private const int Width = 4;

    private static readonly Feature s_feature = Feature.FromDifference(Rows(1, Layers + 1), Rows(2, Layers + 1));

    // A file that is written anew proves nothing: these are as they were written.
    [TestCase("version-1.a-lqr", "3bb2a1f88c1bf59e9f2fa40d6b88c0295d8d9d16f569d219e87551e8568e52bc")]
    [TestCase("version-1.ablation", "22bec396f72cbe2354996d34ad650bcbb17e7171656a79c53cf03a6922d7e851")]
    [TestCase("version-1.addition", "2ae6925c4dd5ffd3627887663974a7a46d49a79e46644a75e7c75a3cddfb7106")]
    [TestCase("version-1.fitted", "5b3330bb04c3cd5baaa73a164b96090dab57ac52bf238d3c3cf69e2d64d914b2")]
    [TestCase("version-1.proportional", "977a0ac3c5e62c7133c1c078279b0d263fe7f8ac74e24212d0e8315f928b5a4b")]
    [TestCase("version-1.s-pid", "e07aae48f9d3e5cf627a06308e766a7b198c3a50c3f445554c05ef67dd9eb47b")]
    [TestCase("version-2.a-lqr", "2c41c818da864f7c5ff325743f41afb9cb72754a59029574f78e6b2e88527fde")]
    [TestCase("version-2.ablation", "79c7b94ad141462f2d2a942995c2da0db5324e90e6221589adc4b48e05474a97")]
    [TestCase("version-2.addition", "4051ccc934a3b0292d30b836bb0949e5021ade6d351d6096a3e11e1e570765e1")]
    [TestCase("version-2.fitted", "70b03da36b70f6c414de3c2371c7e576718e0f9e0c184d1b3d16d8cc64a5c8a7")]
    [TestCase("version-2.proportional", "16888a3cbfdbd29f2f269b4c92fefe154aa20511c2ff194d7819165161d9e561")]
    [TestCase("version-2.s-pid", "677c013ffb85e93ec086d394f6412272d959c694fb1c895153a07a211324a2cc")]
    [TestCase("version-3.a-lqr", "e44bdbd8477208cd7c3d8c6a33c9d4f59ae122995536e45e06ed2f88d1f6123e")]
    [TestCase("version-3.ablation", "f9e48bb9e35f830d051024473b5e0e704bcc0ab4719a449df54569ff6a7a67ec")]
    [TestCase("version-3.addition", "fb54d6b30621bebb1f2f169c31c25c2282dc7dfffd64e2f5513c4c7e1ad75a27")]
    [TestCase("version-3.angular", "c7254a5a8876a655f914acfde47451cccb908d156852822c1d808c9d8a485d28")]
    [TestCase("version-3.clamp", "c4d09daf1024a7024fdcbe074e60bfb402738de893ac288c7634cd719bceee41")]
    [TestCase("version-3.gated", "4d59af810d05e205db669e30aa85f9f79cb014fa54df71af71a6fb670c66075d")]
    [TestCase("version-3.proportional", "4901d63ba4a1ad3a2a053509ac834d48a981ce3f95817ef9cb7e00ed370d3afa")]
    [TestCase("version-3.s-pid", "810545a90599c5119c5125f0b6d895891498e1b532b521d035b4b523467aa484")]
    [TestCase("version-3.trajectory", "2d24dd2a7e6fc1aeb4fabf2a20dac1349fabae7de499cc50432e258125f33784")]
    [TestCase("version-3.ablation-input", "8ee146d8a35eb2511594d4ee2f4f9be29e22c9d32a118cb366541dacb7f1c5c1")]
    [TestCase("version-3.angular-steering", "5b2e4fae6fcf46aa987b6b84306bc162fafb9fafe40155cec8a2598378752dcc")]
    [TestCase("version-4.a-lqr", "001f5e5ff6352c0c75fa5187686b947dafee32c22a13856864bcd69f56aea486")]
    [TestCase("version-4.ablation-input", "9fd5d7880335015b95db12fe57532564ab6002116b8f85f4a05d271ba327bcec")]
    [TestCase("version-4.ablation", "1a3d3bc6caf0b91002b4a50afe8b79ec6ce38d4396879b90a2f1cd82bf114d31")]
    [TestCase("version-4.addition", "c2bc123fba183699eae452e7a306c33da586cc469325ebb4ef716d7612c28ea6")]
    [TestCase("version-4.angular-steering", "306b955b77245f8e29bc3cd227c9672f303b2a96650cba8f009ff760770163ec")]
    [TestCase("version-4.angular", "da37b2feba2c29355863f5a5d2356a13ea67fef0d3aefcd05ed691a71b527404")]
    [TestCase("version-4.cast", "bf32c8db1d510470c66662f8c2f11329589fe71af313e38f703f952df2e3dad7")]
    [TestCase("version-4.clamp", "f1d581b77f40f01277d3861002da171a1334d1b8d393cd8d7724adce57cd0166")]
    [TestCase("version-4.conditional", "79fbf587b2af66e96ce745674e915e270478c1bdb41100f68d54a588d507ac46")]
    [TestCase("version-4.directional-ablation", "6ef18b098b61732b47a338a90ca5ad6ff1241041056774e5f368fb4b2d7c62dc")]
    [TestCase("version-4.gated", "41c942bc7aace523425d23cd402897c5c0247c15d3dc87e46a82eafe368cda46")]
    [TestCase("version-4.linear-act", "c5fefa2a37c021e65bc6ce0fcd2976f438a6f527f2464eca6738fa22b83f7385")]
    [TestCase("version-4.ode-steer", "d370d25573f86e96c16fd4de2eed56a517283775c5b3879c313d64d470bc5813")]
    [TestCase("version-4.proportional", "6f2b6d32ee5e80eef7fc7372cf826851baa61294bb456d4162001d22b0270764")]
    [TestCase("version-4.s-pid", "d043a6060043d9195763a933003c9183dcd5d812f2cb5fb0da142ccf20b91226")]
    [TestCase("version-4.trajectory", "735ba45d5868f827cbb44287f129387c964b9f0b00ebcd11c3f64e10c4bd2645")]
    [TestCase("version-5.a-lqr", "1ce9eb300b7953d3fd575dbe2e466c79d2e1c8f35f2d2a362312e94501e44293")]
    [TestCase("version-5.ablation-input", "62b1b03696391a92ccfd6236e6971988a98a039394965b0fce7d518bc62ecbc7")]
    [TestCase("version-5.ablation", "924efa87c4c3ab1f9b177a84f301e3654e380e91dff762f3ef9fd6ba0521ade4")]
    [TestCase("version-5.addition", "76bf51980455dfe7c9d67490bb757116ab3a2dc150c53eb15a7377cd78422484")]
    [TestCase("version-5.angular-steering", "3677318c52c7faaf25d5036712141c0a4ec67f3fa16df549ee8031c7a4e046d4")]
    [TestCase("version-5.angular", "91b8ab76d11208a374f71d5261d57fc666f6b5c80f721b2ad501f4d8d5e734e2")]
    [TestCase("version-5.cast", "3083449adeb4f7184bbf29cc7708f0957aa92f1c55f37109c317d0550fcdf4f4")]
    [TestCase("version-5.clamp", "4f7ca840a0cbd023821cb3126f3c8d37f4d2029aae1a7c1a41573b79ce9fbeda")]
    [TestCase("version-5.conditional", "3315ab30b92e1816f6ed59be47f689dfaef831ae077a5f8983cc8de736971712")]
    [TestCase("version-5.directional-ablation", "e0f12bdd3effcc2468b280e751282ac7b0f2c3b778018f1ca3f4d2af87c89f25")]
    [TestCase("version-5.gated", "4c30a3c69034cc53fb1b771b569285aeb32838c2483d671124d5537eac0db24d")]
    [TestCase("version-5.linear-act", "5a6635deca2a5a3eb356a49746654ddf8e7053289f5524b79582c941afa8d0c5")]
    [TestCase("version-5.mpc", "f588d4370d6223be7bcf7294e517869ac10c1a65a7da9af2d94015e9815b824d")]
    [TestCase("version-5.ode-steer", "6217023521cce19f5504ae959c99c8faa440ff6298b2648734c16ca26ec3fafa")]
    [TestCase("version-5.proportional", "85886e77bd1dd0afed8b31cdfe0dc59b02bd1757060ff72fe05d427be86875dc")]
    [TestCase("version-5.s-pid", "8b8a16ebc5a08a8131dc8f733804adbfd6f9f39fd72fbdd02cceb7395dba8d7f")]
    [TestCase("version-5.trajectory", "0c3bff51c4153123ecb3fa84b06db5b1f5b0c01ed5dcbb66432b9c38b4af02bf")]
    public void A_kept_file_is_as_it_was_written(string name, string sha256) =>
        Assert.That(Convert.ToHexStringLower(SHA256.HashData(System.IO.File.ReadAllBytes(File(name)))), Is.EqualTo(sha256));

    [Test]
    public void Every_version_has_a_file() =>
        Assert.That(
            Enumerable.Range(1, ControllerFile.Version).Select(version => System.IO.File.Exists(File($"version-{version}.a-lqr"))), Is.All.True,
            "keep a file of the new version in tests/controllers before the next one is made");

    [Test]
    public void A_controller_of_version_1_has_all_that_it_had()
    {
        var read = Controller.Load(File("version-1.a-lqr"));
        var method = (LinearQuadratic)read.Method;
        using (Assert.EnterMultipleScope())
        {
            Assert.That((method.Setpoint, method.Layers), Is.EqualTo((Setpoint.Affine, new LayerSet(1, 2))));
            Assert.That(method.W, Is.EqualTo(Rows(3, Layers)));
            Assert.That((read.Source.ModelName, read.Source.ModelFingerprint), Is.EqualTo(("demo", new string('a', 64))));
            Assert.That(
                new[] { read.Source.Positive, read.Source.Negative, read.Source.Calibration },
                Is.EqualTo(new[] { new PromptSet("0011", 8), new PromptSet("2233", 9), new PromptSet("4455", 17) }));
            Assert.That((read.Source.Weights, read.Source.Cost, read.Source.Order), Is.EqualTo((new LqrWeights(0.03, 1, 0.1), FitCost.State, 2)));
            Assert.That(read.Source.Residuals, Is.EqualTo(new[] { 1e-15, 2e-15, 0 }));
            Assert.That(read.Source.Ranks, Is.EqualTo(new[] { 0, 2, 1 }));
            Assert.That(read.Source.OpenLoop, Is.EqualTo(new[] { 1.1, -0.9, 0.1 + 0.2 }));
            Assert.That(read.Source.Settings.OrderBy(x => x.Key),
                Is.EqualTo(new KeyValuePair<string, string>[] { new("path", "Zürich\n\"x\""), new("seed", "7") }));
        }
    }

    internal static IEnumerable<SteeringMethod> Methods() =>
    [
        new LinearQuadratic(s_feature, Rows(3, Layers), Setpoint.Affine, new LayerSet(1, 2)),
        new OpenLoopAddition(s_feature, new LayerSet(2, 2)),
        new Proportional(Feature.FromDifference(Rows(1, Layers + 1)), 0.1, new LayerSet(0, 1)),
        new Ablation(s_feature),
        new SPid(s_feature, 0.7, 0.01, 1.0 / 3),
        new AngularSetpoint(s_feature, [.. s_feature.V.Take(Layers).Zip(Rows(5, Layers), AngularSetpoint.SecondDirection)], Rows(3, Layers),
            Rows(4, Layers)),
        new AngularSteering(s_feature, [.. s_feature.V.Take(Layers).Zip(Rows(5, Layers), AngularSetpoint.SecondDirection)], adaptive: true),
        new Ablation(s_feature, hook: Hook.Input),
        new Clamp(s_feature, 0.5, null, new LayerSet(1, 1)),
        new Trajectory(s_feature, Rows(2, Layers), [Rows(3, 2), [], Rows(4, 1)], [Rows(6, 2), [], Rows(7, 1)]),
        new Gated(new Proportional(s_feature, 0.25), new TokenGate(2, Rows(8, 1)[0], 0.125f)),
        new PredictiveSteering(
            s_feature,
            [
                new(Rows(3, 1)[0], 0.5f, Rows(4, 1), [0, 0.25f, 1], [[1, 0.75f, 0.5f], [0.25f, 0.125f, 0]], [[-1, -1, 0], [0, 0, 0.5f]]), null,
                new(Rows(5, 1)[0], 1.5f, [], [0, 1], [[2, 1.5f]], [[0, -1]]),
            ],
            0.75),
        new DirectionalAblation(s_feature, 1, new LayerSet(0, 1)),
        new ActivationTransport(s_feature, Rows(3, Layers), Rows(4, Layers), Rows(5, Layers), [.. Rows(5, Layers).Select(Above)], new LayerSet(1, 2)),
        new OdeSteering(s_feature, CountSketch.Random(Width, 3, 0.25, 0.5, seed: 1), [.. Rows(3, Layers).Select(row => row[..3])], 10),
        new CastSteering(s_feature, Rows(9, Layers), NormRule.Pass, new LayerSet(1, 1)),
        new Conditional(
            new Gated(new CastSteering(s_feature, Rows(9, Layers)), new TokenGate(1, Rows(8, 1)[0], 0.5f)),
            new PromptCondition([new ConditionProbe(0, Rows(2, 1)[0]), new ConditionProbe(2, Rows(4, 1)[0])], 0.125, Above: true)),
    ];

    private static float[] Above(float[] low) => Array.ConvertAll(low, x => x + 0.5f);

    private static int FirstVersion(SteeringMethod method) =>
        method is PredictiveSteering ? 5 : method is DirectionalAblation or ActivationTransport or OdeSteering or CastSteering or Conditional ? 4
        : method is AngularSetpoint or AngularSteering or Clamp or Trajectory or Gated or Ablation { Hook: Hook.Input } ? 3 : 1;

    internal static string Kept(int version, SteeringMethod method)
    {
        string name = method is Conditional ? "conditional" : method is Gated ? "gated"
            : method is Ablation { Hook: Hook.Input } ? "ablation-input" : method.Name;
        return $"version-{version}.{name}";
    }

    [TestCaseSource(nameof(Methods))]
    public void Every_method_of_every_version_steers_as_when_it_was_written(SteeringMethod method)
    {
        Keep(method);
        for (int version = FirstVersion(method); version <= ControllerFile.Version; version++)
        {
            // Unit vectors may differ in their last bit from one processor to another.
            const float Bit = 1e-6f;
            var (written, read) = (method.Compile(1.5), Controller.Load(File(Kept(version, method))).ToLaw(1.5));
            Assert.That(written.Terms.Count + written.Edits.Count, Is.Positive);
            Assert.That(read.Terms.Select(t => t.Condition), Is.EqualTo(written.Terms.Select(t => t.Condition)));
            Assert.That(read.Edits.Select(e => (e.GetType(), e.Layer, e.Point, e.Strength, e.Gate, e.Condition, e.JoinsRows)),
                Is.EqualTo(written.Edits.Select(e => (e.GetType(), e.Layer, e.Point, e.Strength, e.Gate, e.Condition, e.JoinsRows))));
            Assert.That(read.Edits.SelectMany(e => e.Vectors), Is.EqualTo(written.Edits.SelectMany(e => e.Vectors)).Within(Bit));
            Assert.That(read.Edits.OfType<FlowEdit>().Select(Told), Is.EqualTo(written.Edits.OfType<FlowEdit>().Select(Told)));
            Assert.That(read.Conditions.Select(c => (c.Threshold, c.Above, string.Join(' ', c.Probes.Select(p => p.Layer)))),
                Is.EqualTo(written.Conditions.Select(c => (c.Threshold, c.Above, string.Join(' ', c.Probes.Select(p => p.Layer))))));
            Assert.That(read.Conditions.SelectMany(c => c.Probes, (_, p) => p.Direction),
                Is.EqualTo(written.Conditions.SelectMany(c => c.Probes, (_, p) => p.Direction)));
            Assert.That(read.Terms.Select(t => (t.Layer, t.Gate, t.Hook)), Is.EqualTo(written.Terms.Select(t => (t.Layer, t.Gate, t.Hook))));
            Assert.That(read.Terms.Select(t => t.C), Is.EqualTo(written.Terms.Select(t => t.C)).Within(Bit));
            Assert.That(read.Terms.SelectMany(t => t.Feeds, (_, f) => f.Sensor),
                Is.EqualTo(written.Terms.SelectMany(t => t.Feeds, (_, f) => f.Sensor)));
            Assert.That(read.Terms.SelectMany(t => t.Feeds, (_, f) => f.Gain),
                Is.EqualTo(written.Terms.SelectMany(t => t.Feeds, (_, f) => f.Gain)).Within(Bit));
            Assert.That(read.Terms.SelectMany(t => t.Feeds, (_, f) => f.Curve?.At(4)),
                Is.EqualTo(written.Terms.SelectMany(t => t.Feeds, (_, f) => f.Curve?.At(4))));
            Assert.That(read.MaxEffort, Is.EqualTo(written.MaxEffort));
            Assert.That(read.Terms.Select(t => t.W), Is.EqualTo(written.Terms.Select(t => t.W)).Within(Bit));
            Assert.That(read.Sensors.Select(s => s.Layer), Is.EqualTo(written.Sensors.Select(s => s.Layer)));
            Assert.That(read.Sensors.Select(s => s.Low), Is.EqualTo(written.Sensors.Select(s => s.Low)).Within(Bit));
            Assert.That(read.Sensors.Select(s => s.High), Is.EqualTo(written.Sensors.Select(s => s.High)).Within(Bit));
            Assert.That(read.Planes, Is.EqualTo(written.Planes));
            Assert.That(read.Sensors.Select(s => s.V), Is.EqualTo(written.Sensors.Select(s => s.V)).Within(Bit));
        }
    }

    private static string Told(FlowEdit e) =>
        FormattableString.Invariant($"{e.Steps} {e.Sketch.Gamma} {e.Sketch.Constant} {string.Join(' ', e.Sketch.Places.ToArray())}");

    [Test]
    public void A_controller_of_version_1_was_fitted_on_raw_text()
    {
        var read = Controller.Load(File("version-1.fitted"));
        Assert.That(read.Source.Form, Is.EqualTo(new RawForm()));
        Assert.That(read.DifferenceTo(new RawForm()), Is.Null);
        Assert.That(read.DifferenceTo(new ChatForm { TemplateSha256 = "0" }), Does.Contain("raw text"));
    }

    [Test]
    public void A_controller_of_version_2_knows_its_chat_format()
    {
        var form = (ChatForm)Controller.Load(File("version-2.a-lqr")).Source.Form!;
        Assert.That(form, Is.EqualTo(new ChatForm { TemplateSha256 = new string('c', 64), System = "Be brief." }));
    }

    // A file of the newest version that is not there yet is written where documents are; those that are there stay.
    private static void Keep(SteeringMethod method)
    {
        string file = File(Kept(ControllerFile.Version, method));
        if (Environment.GetEnvironmentVariable("TILLER_REWRITE_DOCS") == "1" && !System.IO.File.Exists(file))
        {
            var source = new ControllerSource
            {
                ModelName = "demo",
                ModelFingerprint = new string('a', 64),
                Positive = new PromptSet("0011", 8),
                Negative = new PromptSet("2233", 9),
                Form = new ChatForm { TemplateSha256 = new string('c', 64), System = "Be brief." },
            };
            new Controller(method, source).Save(file);
        }
    }

    internal static string File(string name) => Repository.Path("tests", "controllers", name + ".tiller");

    // Multiples of a quarter: the same on every machine.
    private static float[][] Rows(int first, int count) =>
        [.. Enumerable.Range(0, count).Select(i => Enumerable.Range(0, Width).Select(j => (((first + (7 * i) + (3 * j)) % 11) - 5) / 4f).ToArray())];
}
