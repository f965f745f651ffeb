using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>The prompts from which a controller was made, without their text.</summary>
/// <param name="Sha256">Lower-case hexadecimal hash of the prompts.</param>
/// <param name="Count">Number of prompts.</param>
public sealed record PromptSet(string Sha256, int Count);

/// <summary>
/// Where a controller comes from and how accurately it was solved. Steering does not depend on it: it is for people and for checks.
/// </summary>
public sealed record ControllerSource
{
    /// <summary>Name of the model on which the controller was fitted.</summary>
    public required string ModelName { get; init; }

    /// <summary>Fingerprint of that checkpoint (<see cref="CheckpointFingerprint"/>).</summary>
    public required string ModelFingerprint { get; init; }

    /// <summary>Prompts with the feature.</summary>
    public required PromptSet Positive { get; init; }

    /// <summary>Prompts without the feature.</summary>
    public required PromptSet Negative { get; init; }

    /// <summary>Prompts whose Jacobians were averaged, if they are not the contrast prompts; null otherwise.</summary>
    public PromptSet? Calibration { get; init; }

    /// <summary>
    /// The form in which the prompts were passed to the model; null if unknown. Steer texts of the same form: in another form, the model may have
    /// another direction for the feature.
    /// </summary>
    public PromptForm? Form { get; init; }

    /// <summary>q, r and qf; null for a method that solves nothing.</summary>
    public LqrWeights? Weights { get; init; }

    /// <summary>What the cost counts; null for a method that solves nothing.</summary>
    public FitCost? Cost { get; init; }

    /// <summary>Order p of a reduced solve; null for other solves.</summary>
    public int? Order { get; init; }

    /// <summary>Relative Riccati residual of every layer, 0 outside the horizon // (L); null for a method that solves no recursion.</summary>
    public IReadOnlyList<double>? Residuals { get; init; }

    /// <summary>Rank of every layer's solution, 0 outside the horizon // (L); null for a method that solves no recursion.</summary>
    public IReadOnlyList<int>? Ranks { get; init; }

    /// <summary>Open-loop gain v_{k+1}·A_k v_k of every layer // (L); null if no gain was computed. See <see cref="ClosedLoop"/>.</summary>
    public IReadOnlyList<double>? OpenLoop { get; init; }

    /// <summary>The bound on the tracking error, checked on held-out prompts; null if none were held out.</summary>
    public ControllerCertificate? Certificate { get; init; }

    /// <summary>Name of the setting that holds the name of the fit's method (<see cref="FitMethod"/>).</summary>
    public const string MethodSetting = "method";

    /// <summary>Further settings of the fit, by name.</summary>
    public IReadOnlyDictionary<string, string> Settings { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal);
}

/// <summary>
/// A fitted way of steering, as a file holds it: the method with its vectors, and its source. λ is chosen when the controller is used. A controller
/// is immutable, so that sessions can share it.
/// </summary>
public sealed class Controller
{
    /// <summary>Combines a method and its source.</summary>
    /// <param name="method">The method, with its feature.</param>
    /// <param name="source">Model, prompts and settings of the fit.</param>
    /// <exception cref="ArgumentException">
    /// A list of the source does not have L entries or holds a number that is not finite, or the certificate has more blocks than the feature.
    /// </exception>
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

    /// <summary>Model, prompts and settings of the fit.</summary>
    public ControllerSource Source { get; }

    /// <summary>The method without its gate, if it has one.</summary>
    internal SteeringMethod Ungated => Method is Gated gated ? gated.Method : Method;

    /// <summary>Number of blocks of the model.</summary>
    public int L => Method.Feature.L;

    /// <summary>Width of the model.</summary>
    public int D => Method.Feature.D;

    /// <summary>Compiles the run-time law for strength λ.</summary>
    /// <param name="lambda">λ in the units of the method. For most methods it is a multiple of μ_k, the distance between the two means.</param>
    /// <param name="maxEffort">Bound on |u_k|; positive infinity for none.</param>
    /// <exception cref="ArgumentException">λ is not finite or the bound is not positive.</exception>
    /// <exception cref="SteeringOverflowException">A setpoint or a gain at this λ is too large for float32.</exception>
    public FeedbackLaw ToLaw(double lambda, float maxEffort = float.PositiveInfinity) => Method.Compile(lambda, maxEffort);

    /// <summary>
    /// Whether another controller gives the same law at every λ; their sources do not count. Two such controllers push twice if their laws are added
    /// (<see cref="FeedbackLaw.Sum"/>).
    /// </summary>
    public bool SteersAs(Controller other) => Method.SteersAs(other.Method);

    /// <summary>Throws if this controller was fitted on another model.</summary>
    /// <param name="modelName">Name of the loaded model.</param>
    /// <param name="fingerprint">Fingerprint of the loaded model (<see cref="CheckpointFingerprint"/>).</param>
    /// <param name="layers">L of the loaded model.</param>
    /// <param name="width">D of the loaded model.</param>
    /// <exception cref="ControllerException">The controller was fitted on another model (<see cref="ControllerFault.ModelMismatch"/>).</exception>
    public void CheckModel(string modelName, string fingerprint, int layers, int width)
    {
        if (layers != L || width != D || !string.Equals(fingerprint, Source.ModelFingerprint, StringComparison.OrdinalIgnoreCase))
        {
            throw new ControllerException(
                ControllerFault.ModelMismatch,
                $"The controller was fitted on {Source.ModelName} (L {L}, D {D}, fingerprint {Short(Source.ModelFingerprint)}); the loaded model is "
                + $"{modelName} (L {layers}, D {width}, fingerprint {Short(fingerprint)}). Fit it again on this model, or load the one it was "
                + "fitted on.");
        }
    }

    /// <summary>Throws if this controller was fitted on another model.</summary>
    /// <exception cref="ControllerException">The controller was fitted on another model (<see cref="ControllerFault.ModelMismatch"/>).</exception>
    public void CheckModel(LanguageModel model) => CheckModel(model.Name, model.Fingerprint, model.Config.L, model.Config.D);

    /// <summary>Describes how the form of the fit's prompts differs from the form of a text.</summary>
    /// <param name="steered">The form of the text to be steered: <see cref="RawForm"/>, or <see cref="ChatForm.Of"/> its messages.</param>
    /// <returns>A sentence; null if the forms do not differ, or if one of them is unknown.</returns>
    public string? DifferenceTo(PromptForm steered) => Source.Form?.DifferenceTo(steered) is { } difference ? $"The controller {difference}." : null;

    /// <summary>Writes the controller in one step: a reader sees either the old file or the complete new one.</summary>
    /// <param name="path">The file to create or replace. Links are followed; a target that is not a regular file is written directly.</param>
    /// <exception cref="SafetensorsException">The file cannot be written; an old file is intact.</exception>
    public void Save(string path) => ControllerFile.Write(path, this);

    /// <summary>Writes the bytes of a controller's file to a stream.</summary>
    /// <param name="stream">The stream. It is written from front to back and left open.</param>
    /// <exception cref="IOException">The stream cannot be written.</exception>
    public void Save(Stream stream) => ControllerFile.Write(stream, this);

    /// <summary>Reads and checks a controller.</summary>
    /// <param name="path">A file written by <see cref="Save(string)"/>.</param>
    /// <exception cref="ControllerException">The file is not a controller, too new, damaged, or holds numbers out of range.</exception>
    /// <exception cref="SafetensorsException">The file is missing, unreadable or malformed.</exception>
    public static Controller Load(string path) => ControllerFile.Read(path);

    private static string Short(string fingerprint) => fingerprint.Length > 12 ? fingerprint[..12] : fingerprint;
}
