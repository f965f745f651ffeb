using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary><c>/tokenize</c> and <c>/detokenize</c>.</summary>
internal sealed class TokenRoutes(TillerService service)
{
    public async Task Tokenize(HttpContext context)
    {
        using var body = await RequestBody.ReadJsonAsync(context, service.Options);
        var fields = new JsonFields(body.RootElement);
        CheckModel(fields);
        string? prompt = fields.TakeText("prompt");
        int[] ids;
        if (prompt is not null)
        {
            bool special = fields.TakeFlag("add_special_tokens") ?? true;
            ids = service.Model.Tokenizer.Encode(prompt, special, cancellationToken: context.RequestAborted);
        }
        else
        {
            bool opening = fields.TakeFlag("add_generation_prompt") ?? true;
            ids = CompletionRequest.EncodeChat(fields, service, context.RequestAborted, opening);
        }

        fields.End();
        await Reply.JsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("tokens");
            foreach (int id in ids)
            {
                json.WriteNumberValue(id);
            }

            json.WriteEndArray();
            json.WriteNumber("count", ids.Length);
            json.WriteNumber("max_model_len", service.Model.Config.MaxPositions);
            json.WriteEndObject();
        });
    }

    public async Task Detokenize(HttpContext context)
    {
        using var body = await RequestBody.ReadJsonAsync(context, service.Options);
        var fields = new JsonFields(body.RootElement);
        CheckModel(fields);
        int[] ids = CompletionRequest.Ids(fields.Need("tokens"), "tokens", service);
        bool skips = fields.TakeFlag("skip_special_tokens") ?? false;
        fields.End();
        await Reply.JsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("prompt", service.Model.Tokenizer.Decode(ids, skips));
            json.WriteEndObject();
        });
    }

    private void CheckModel(JsonFields fields)
    {
        if (fields.TakeText("model") is { } model)
        {
            ModelRoutes.Check(service, model);
        }
    }
}
