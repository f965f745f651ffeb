using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Tiller.Controllers;

namespace Tiller.Serving;

/// <summary><c>/v1/controllers</c>: lists, uploads and removes controllers.</summary>
internal sealed class ControllerRoutes(TillerService service)
{
    public Task List(HttpContext context) => Reply.JsonAsync(context, json =>
    {
        json.WriteStartObject();
        json.WriteString("object", "list");
        json.WriteStartArray("data");
        foreach (var controller in service.Controllers.All)
        {
            Write(json, controller);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    });

    public Task Get(HttpContext context)
    {
        var controller = service.Controllers.Get(NameOf(context), "name");
        return Reply.JsonAsync(context, json => Write(json, controller, isWhole: true));
    }

    public Task Remove(HttpContext context)
    {
        string? name = NameOf(context);
        service.Controllers.Remove(name);
        return Reply.JsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("name", name);
            json.WriteString("object", "controller");
            json.WriteBoolean("deleted", true);
            json.WriteEndObject();
        });
    }

    public async Task Upload(HttpContext context)
    {
        var query = context.Request.Query;
        string? unknown = query.Keys.FirstOrDefault(key => key is not ("name" or "replace"));
        if (unknown is not null)
        {
            throw ApiException.Bad("query", "The query has an unknown parameter: it may have 'name' and 'replace'.", "unknown_field");
        }

        if (context.Request.ContentType is not "application/octet-stream")
        {
            throw new ApiException(StatusCodes.Status415UnsupportedMediaType, ApiException.InvalidRequest,
                "The body must be the file's bytes, with the header 'Content-Type: application/octet-stream'.", null, "unsupported_media_type");
        }

        string? name = query["name"].Count == 1 ? query["name"][0] : null;
        bool replace = query["replace"] is ["true"];
        service.Controllers.CheckFree(name, "name", replace);
        RequestBody.Bound(context, service.Options.MaxUploadBytes);
        string path = service.Controllers.NewPath();
        try
        {
            await using (var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                await RequestBody.CopyAsync(context, file, service.Options.MaxUploadBytes);
            }

            var added = service.Controllers.Add(name!, path, replace);
            await Reply.JsonAsync(context, json => Write(json, added), StatusCodes.Status201Created);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>Writes the object of a controller.</summary>
    /// <param name="json">The writer.</param>
    /// <param name="named">The controller.</param>
    /// <param name="isWhole">Whether to write the details too.</param>
    public static void Write(Utf8JsonWriter json, NamedController named, bool isWhole = false)
    {
        var controller = named.Controller;
        json.WriteStartObject();
        json.WriteString("name", named.Name);
        json.WriteString("object", "controller");
        json.WriteString("method", controller.Method.Name);
        json.WriteString("model", controller.Source.ModelName);
        json.WriteString("layers", controller.Method.Layers.ToString());
        json.WriteNumber("bytes", named.SizeInBytes);
        json.WriteNumber("created", named.CreatedAt.ToUnixTimeSeconds());
        if (isWhole)
        {
            json.WritePropertyName("inspect");
            ControllerDescription.Write(json, controller);
        }

        json.WriteEndObject();
    }

    private static string? NameOf(HttpContext context) => (string?)context.GetRouteValue("name");
}
