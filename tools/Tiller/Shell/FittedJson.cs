using System.Text.Json.Serialization;
using Tiller.Controllers;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary>The properties of a controller that both <c>fit</c> and <c>inspect</c> print.</summary>
internal abstract record FittedJson
{
    protected FittedJson(Controller controller)
    {
        var source = controller.Source;
        (Model, Fingerprint, L, D) = (source.ModelName, source.ModelFingerprint, controller.L, controller.D);
        (Settings, Cost) = (FitOutput.Settings(source), FitOutput.Name(source.Cost));
        (Q, R, Qf) = (source.Weights?.Q, source.Weights?.R, source.Weights?.Qf);
        Form = source.Form switch { RawForm => "raw", ChatForm => "chat", TokenForm => "tokens", _ => null };
        if (source.Form is ChatForm chat)
        {
            (TemplateSha256, System, SystemVaries) = (chat.TemplateSha256, chat.System, chat.SystemVaries);
        }

        Certificate = source.Certificate is { } certificate ? new CertificateJson(certificate) : null;
    }

    public string Model { get; }

    public string Fingerprint { get; }

    [JsonPropertyName("L")]
    public int L { get; }

    [JsonPropertyName("D")]
    public int D { get; }

    public IReadOnlyDictionary<string, string> Settings { get; }

    public string? Cost { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Q { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? R { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Qf { get; }

    public string? Form { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? TemplateSha256 { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? System { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? SystemVaries { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public CertificateJson? Certificate { get; }
}
