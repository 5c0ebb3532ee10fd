// The live part of the page of a show: it replaces the list of tickets that the server wrote.
export default function Show(_: { id?: string }) {
  return null;
}
