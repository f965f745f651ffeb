using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>Prompts that a controller was made from, without their text.</summary>
/// <param name="Sha256">Lower-case hexadecimal hash of the prompts.</param>
/// <param name="Count">Number of prompts.</param>
public sealed record PromptSet(string Sha256, int Count);

/// <summary>Where a controller comes from and how well it was solved; everything in it is for people and for checks.</summary>
public sealed record ControllerSource
{
    /// <summary>Name of the model it was fitted on.</summary>
    public required string ModelName { get; init; }

    /// <summary>Fingerprint of that checkpoint (<see cref="CheckpointFingerprint"/>).</summary>
    public required string ModelFingerprint { get; init; }

    /// <summary>Prompts with the feature.</summary>
    public required PromptSet Positive { get; init; }

    /// <summary>Prompts without the feature.</summary>
    public required PromptSet Negative { get; init; }

    /// <summary>Prompts whose Jacobians were averaged; null where none were.</summary>
    public PromptSet? Calibration { get; init; }

    /// <summary>
    /// How the prompts were put to the model; null where that is not known. Steer text in the same form: the direction need not be the
    /// model's in another.
    /// </summary>
    public PromptForm? Form { get; init; }

    /// <summary>q, r and qf; null for a method that solves nothing.</summary>
    public LqrWeights? Weights { get; init; }

    /// <summary>What was charged for; null for a method that solves nothing.</summary>
    public FitCost? Cost { get; init; }

    /// <summary>Order p of a reduced solve; null for the others.</summary>
    public int? Order { get; init; }

    /// <summary>Relative Riccati residual of every layer, 0 outside the horizon // (L), or null.</summary>
    public IReadOnlyList<double>? Residuals { get; init; }

    /// <summary>Rank of every layer's solve, 0 outside the horizon // (L), or null.</summary>
    public IReadOnlyList<int>? Ranks { get; init; }

    /// <summary>Open-loop gain v_{k+1}·A_k v_k of every layer // (L), or null; see <see cref="ClosedLoop"/>.</summary>
    public IReadOnlyList<double>? OpenLoop { get; init; }

    /// <summary>What the bound on the tracking error says of the gains on held-out prompts; null where none were.</summary>
    public ControllerCertificate? Certificate { get; init; }

    /// <summary>Name of the setting that says as which method (<see cref="FitMethod"/>) the controller was fitted.</summary>
    public const string MethodSetting = "method";

    /// <summary>Further settings of the fit, by name.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal);
}

/// <summary>
/// A fitted way of steering, as it is kept in a file: the method with its vectors, and where it comes from. λ is chosen when it is
/// used. Immutable, so sessions share it.
/// </summary>
public sealed class Controller
{
    /// <summary>Puts a method and its source together.</summary>
    /// <param name="method">The method, with its feature.</param>
    /// <param name="source">Model, prompts and settings it was made from.</param>
    /// <exception cref="ArgumentException">A per-layer list of the source has not L entries, or holds a number that is not finite.</exception>
    public Controller(SteeringMethod method, ControllerSource source)
    {
        foreach (int? count in new[] { source.Residuals?.Count, source.Ranks?.Count, source.OpenLoop?.Count })
        {
            if (count is not null && count != method.Feature.L)
            {
                throw new ArgumentException($"A list of the source has {count} entries; the feature has {method.Feature.L} blocks.", nameof(source));
            }
        }

        if (!(source.Residuals ?? []).Concat(source.OpenLoop ?? []).All(double.IsFinite))
        {
            throw new ArgumentException("Residuals and open-loop gains must be finite.", nameof(source));
        }

        if (source.Certificate is { } certificate && certificate.First + certificate.Contraction.Count > method.Feature.L)
        {
            throw new ArgumentException(
                $"The certificate has {certificate.Contraction.Count} steps from block {certificate.First} on; the feature has {method.Feature.L} "
                + "blocks.",
                nameof(source));
        }

        Method = method;
        Source = source;
    }

    /// <summary>The method, with its feature.</summary>
    public SteeringMethod Method { get; }

    /// <summary>Model, prompts and settings it was made from.</summary>
    public ControllerSource Source { get; }

    /// <summary>The method without the gate before it, if it has one.</summary>
    internal SteeringMethod Ungated => Method is Gated gated ? gated.Method : Method;

    /// <summary>Blocks of the model.</summary>
    public int L => Method.Feature.L;

    /// <summary>Width of the model.</summary>
    public int D => Method.Feature.D;

    /// <summary>The run-time law for strength λ.</summary>
    /// <param name="lambda">Strength; 1 is the distance between the two means.</param>
    /// <param name="maxEffort">Bound on |u_k|, positive infinity for none.</param>
    /// <exception cref="ArgumentException">λ is not finite or the bound is not positive.</exception>
    /// <exception cref="SteeringOverflowException">A setpoint or a gain at this λ is too large for float32.</exception>
    public FeedbackLaw ToLaw(double lambda, float maxEffort = float.PositiveInfinity) => Method.Compile(lambda, maxEffort);

    /// <summary>
    /// Whether another controller steers alike at every λ, wherever it came from and whatever its source says. Two that do push twice when their laws
    /// are added (<see cref="FeedbackLaw.Sum"/>).
    /// </summary>
    public bool SteersAs(Controller other) => Method.SteersAs(other.Method);

    /// <summary>Refuses a model that this controller was not fitted on.</summary>
    /// <param name="modelName">Name of the model at hand.</param>
    /// <param name="fingerprint">Fingerprint of the model at hand (<see cref="CheckpointFingerprint"/>).</param>
    /// <param name="layers">L of the model at hand.</param>
    /// <param name="width">D of the model at hand.</param>
    /// <exception cref="ControllerException">ModelMismatch.</exception>
    public void CheckModel(string modelName, string fingerprint, int layers, int width)
    {
        if (layers != L || width != D || !string.Equals(fingerprint, Source.ModelFingerprint, StringComparison.OrdinalIgnoreCase))
        {
            throw new ControllerException(
                ControllerFault.ModelMismatch,
                $"The controller was fitted on {Source.ModelName} (L {L}, D {D}, fingerprint {Short(Source.ModelFingerprint)}), the model at hand is "
                + $"{modelName} (L {layers}, D {width}, fingerprint {Short(fingerprint)}). Fit it again on this model, or load the one it was "
                + "fitted on.");
        }
    }

    /// <summary>Refuses a model that this controller was not fitted on.</summary>
    /// <exception cref="ControllerException">ModelMismatch.</exception>
    public void CheckModel(LanguageModel model) => CheckModel(model.Name, model.Fingerprint, model.Config.L, model.Config.D);

    /// <summary>What is different about the form this controller was fitted in, where a text in another form is steered.</summary>
    /// <param name="steered">The form of the text that is to be steered: <see cref="RawForm"/>, or <see cref="ChatForm.Of"/> its messages.</param>
    /// <returns>A sentence; null where nothing differs, or one of the forms is not known.</returns>
    public string? DifferenceTo(PromptForm steered) => Source.Form?.DifferenceTo(steered) is { } difference ? $"The controller {difference}." : null;

    /// <summary>Writes the controller as one step: a reader sees the old file or the new one, whole.</summary>
    /// <param name="path">File to create or replace; links are followed, and what is no regular file is written through.</param>
    /// <exception cref="SafetensorsException">The file cannot be written; the old one, if any, is intact.</exception>
    public void Save(string path) => ControllerFile.Write(path, this);

    /// <summary>Writes the controller, as its file would hold it.</summary>
    /// <param name="stream">Is written front to back and left open.</param>
    /// <exception cref="IOException">The stream takes no more.</exception>
    public void Save(Stream stream) => ControllerFile.Write(stream, this);

    /// <summary>Reads and checks a controller.</summary>
    /// <param name="path">A file that <see cref="Save(string)"/> wrote.</param>
    /// <exception cref="ControllerException">Not a controller, too new, damaged, or with numbers out of range.</exception>
    /// <exception cref="SafetensorsException">Missing, unreadable or malformed.</exception>
    public static Controller Load(string path) => ControllerFile.Read(path);

    private static string Short(string fingerprint) => fingerprint.Length > 12 ? fingerprint[..12] : fingerprint;
}
