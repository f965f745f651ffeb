using System.Text.Json.Serialization;

namespace Tiller.Tool;

/// <summary>What <c>tiller serve --json</c> prints once it listens.</summary>
internal sealed record ServeJson(string Url, string Model);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ServeJson))]
internal sealed partial class ServeJsonContext : JsonSerializerContext;
