using Tiller.Evaluation.Onnx;
using Tiller.Tool;

return await ToolProcess.RunAsync(args, [OnnxScorer.Kind]);
