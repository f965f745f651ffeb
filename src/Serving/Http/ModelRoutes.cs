using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Tiller.Serving;

/// <summary><c>/v1/models</c>: the model of this server.</summary>
internal sealed class ModelRoutes(TillerService service)
{
    public Task List(HttpContext context) => Reply.JsonAsync(context, json =>
    {
        json.WriteStartObject();
        json.WriteString("object", "list");
        json.WriteStartArray("data");
        Write(json);
        json.WriteEndArray();
        json.WriteEndObject();
    });

    public Task Get(HttpContext context)
    {
        Check(service, (string?)context.GetRouteValue("model"));
        return Reply.JsonAsync(context, Write);
    }

    /// <summary>Refuses any other model.</summary>
    public static void Check(TillerService service, string? name)
    {
        if (name != service.ModelName)
        {
            throw ApiException.NotFound("model", $"The model '{name}' is not served here: use '{service.ModelName}'.", "model_not_found");
        }
    }

    private void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("id", service.ModelName);
        json.WriteString("object", "model");
        json.WriteNumber("created", service.StartedAt.ToUnixTimeSeconds());
        json.WriteString("owned_by", "tiller");
        json.WriteNumber("max_model_len", service.Model.Config.MaxPositions);
        json.WriteNumber("layers", service.Model.Config.L);
        json.WriteString("fingerprint", service.Fingerprint);
        json.WriteEndObject();
    }
}
