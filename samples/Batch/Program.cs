using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

using var model = LanguageModel.Load("models/demo");
var contrast = ContrastSet.Read("models/demo/contrast/topic.positive.txt", "models/demo/contrast/topic.negative.txt");
var sea = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature }).Controller;

using var batch = new SessionBatch(model);
using Session plain = new(model), steered = new(model, sea.ToLaw(lambda: 1.5));
var sampling = new SamplingOptions { Temperature = 0.7f, Seed = 3 };
BatchRow[] rows = [new(plain, new Sampler(sampling, model.Config.V)), new(steered, new Sampler(sampling, model.Config.V))];
Array.ForEach(rows, row => row.Session.Append(model.Tokenizer.Encode("Once upon a time")));
int[] ids = new int[rows.Length];
for (int i = 0; i < 36; i++)
{
    batch.Draw(rows, ids);
    batch.Step(rows, ids);
}

Array.ForEach(rows, row => Console.WriteLine(model.Tokenizer.Decode(row.Session.Ids, skipSpecial: true)));
