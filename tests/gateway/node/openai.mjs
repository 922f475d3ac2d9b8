// The official Node client: chat completions and responses, whole, streamed, with tools and parsed.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { aborted, run } from "./told.mjs";

const openai = (asked) => new OpenAI({ baseURL: asked.url, apiKey: asked.key });
const mail = z.object({ subject: z.string(), words: z.number() });
const parameters = { type: "object", properties: { to: { type: "string" }, urgent: { type: "boolean" } } };
const tools = [{ type: "function", function: { name: "send_email", description: "Send it.", parameters } }];
const functions = [{ type: "function", strict: false, ...tools[0].function }];

const ask = (asked) => ({ model: asked.model, messages: [{ role: "user", content: asked.prompt }] });
const put = (asked) => ({ model: asked.model, input: asked.prompt });

async function chat(asked) {
  const answer = await openai(asked).chat.completions.create(ask(asked));
  return { id: answer.id, text: answer.choices[0].message.content, usage: Boolean(answer.usage) };
}

async function stream(asked) {
  const texts = [];
  let last;
  for await (const chunk of await openai(asked).chat.completions.create({
    ...ask(asked),
    stream: true,
    stream_options: { include_usage: true },
  })) {
    const text = chunk.choices[0]?.delta?.content;
    if (text) texts.push(text);
    last = chunk;
  }
  return { id: last.id, text: texts.join(""), pieces: texts.length, usage: Boolean(last.usage) };
}

async function toolCalls(asked) {
  const said = ask(asked);
  const answer = await openai(asked).chat.completions.create({ ...said, tools });
  const message = answer.choices[0].message;
  const [call] = message.tool_calls;
  const messages = [...said.messages, message, { role: "tool", tool_call_id: call.id, content: "sent" }];
  const after = await openai(asked).chat.completions.create({ ...said, messages, tools });
  const { name: called, arguments: given } = call.function;
  return { id: answer.id, call: [called, given], after: after.choices[0].message.content };
}

async function toolsStream(asked) {
  const answer = await openai(asked).chat.completions.stream({ ...ask(asked), tools }).finalChatCompletion();
  const { name: called, arguments: given } = answer.choices[0].message.tool_calls[0].function;
  return { id: answer.id, call: [called, given] };
}

async function parsed(asked) {
  const answer = await openai(asked).chat.completions.parse({ ...ask(asked), response_format: zodResponseFormat(mail, "mail") });
  return { id: answer.id, parsed: answer.choices[0].message.parsed };
}

async function slow(asked) {
  const chunks = await openai(asked).chat.completions.create({ ...ask(asked), stream: true });
  for await (const chunk of chunks) {
    const text = chunk.choices[0]?.delta?.content;
    if (!text) continue;
    chunks.controller.abort();
    return { id: chunk.id, text };
  }
}

async function wait(asked) {
  try {
    await openai(asked).chat.completions.create(ask(asked), { signal: aborted(asked) });
  } catch (error) {
    return { gone: error instanceof OpenAI.APIUserAbortError };
  }
}

async function response(asked) {
  const answer = await openai(asked).responses.create(put(asked));
  return { id: answer.id, text: answer.output_text, usage: Boolean(answer.usage) };
}

async function responseStream(asked) {
  const texts = [];
  let last;
  for await (const event of await openai(asked).responses.create({ ...put(asked), stream: true })) {
    if (event.type === "response.output_text.delta") texts.push(event.delta);
    last = event;
  }
  if (!["response.completed", "response.incomplete"].includes(last.type)) throw new Error(`ended with ${last.type}`);
  return { id: last.response.id, text: texts.join(""), pieces: texts.length, usage: Boolean(last.response.usage) };
}

const called = (answer) => answer.output.find((item) => item.type === "function_call");

async function responseTools(asked) {
  const said = put(asked);
  const answer = await openai(asked).responses.create({ ...said, tools: functions });
  const call = called(answer);
  const result = { type: "function_call_output", call_id: call.call_id, output: "sent" };
  const input = [{ role: "user", content: said.input }, ...answer.output, result];
  const after = await openai(asked).responses.create({ ...said, input, tools: functions });
  return { id: answer.id, call: [call.name, call.arguments], after: after.output_text };
}

async function responseToolsStream(asked) {
  const answer = await openai(asked).responses.stream({ ...put(asked), tools: functions }).finalResponse();
  const call = called(answer);
  return { id: answer.id, call: [call.name, call.arguments] };
}

async function responseParsed(asked) {
  const answer = await openai(asked).responses.parse({ ...put(asked), text: { format: zodTextFormat(mail, "mail") } });
  return { id: answer.id, parsed: answer.output_parsed };
}

async function responseSlow(asked) {
  let id;
  const events = await openai(asked).responses.create({ ...put(asked), stream: true });
  for await (const event of events) {
    if (event.type === "response.created") id = event.response.id;
    if (event.type !== "response.output_text.delta") continue;
    events.controller.abort();
    return { id, text: event.delta };
  }
}

async function responseWait(asked) {
  try {
    await openai(asked).responses.create(put(asked), { signal: aborted(asked) });
  } catch (error) {
    return { gone: error instanceof OpenAI.APIUserAbortError };
  }
}

const failure = (error) => ({
  error: [error.constructor.name],
  message: error.message,
  status_code: error.status,
  code: error.code,
  param: error.param,
  type: error.type,
  retry_after: error.headers?.get("retry-after"),
});

await run(
  {
    "chat/chat": chat,
    "chat/stream": stream,
    "chat/tools": toolCalls,
    "chat/tools stream": toolsStream,
    "chat/json": parsed,
    "chat/slow": slow,
    "chat/wait": wait,
    "responses/chat": response,
    "responses/stream": responseStream,
    "responses/tools": responseTools,
    "responses/tools stream": responseToolsStream,
    "responses/json": responseParsed,
    "responses/slow": responseSlow,
    "responses/wait": responseWait,
  },
  failure,
);
